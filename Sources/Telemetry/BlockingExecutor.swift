internal import CSystem
internal import Glibc

/// A bounded pool of threads for calls that block: libvirt, SQLite, files, password hashes.
///
/// Threads start when work comes and end after 30 s without any. Work waits in arrival order; the queue is as long as the
/// number of Swift tasks that callers let wait, so callers bound their own tasks.
public final class BlockingExecutor: TaskExecutor, Sendable {
    private static let idleSeconds = 30

    private let name: String
    private let limit: Int
    private let monitor = Monitor()
    private let queuedGauge: GaugeCell
    private let threadsGauge: GaugeCell

    /// A pool named `name` (threads show its first 15 bytes) of at most `threads` threads.
    public init(name: String, threads: Int) {
        precondition(threads > 0, "an executor without threads would never run anything")
        self.name = name
        limit = threads
        let labels = [("executor", name)]
        queuedGauge = Metrics.shared.gauge(
            "apus_executor_queued", help: "Pieces of work that wait for a thread."
        ).cell(labels: labels)
        threadsGauge = Metrics.shared.gauge("apus_executor_threads", help: "Threads alive.").cell(labels: labels)
    }

    /// Runs `body` on one of the pool's threads. `body` may block; the caller's thread does not.
    public func run<T: Sendable, E: Error>(_ body: @Sendable () throws(E) -> T) async throws(E) -> T {
        try await withTaskExecutorPreference(self) { () async throws(E) -> T in try body() }
    }

    /// Lets idle threads end at once. Work that is queued, or comes later, still runs.
    public func shutdown() { monitor.shutDown() }

    /// Work that waits for a thread, and threads alive.
    public var load: (queued: Int, threads: Int) { monitor.load }

    public func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        // The runtime does not retain executors. Once the job is queued another thread can finish it, and with it the
        // call that kept this one alive.
        let keptAlive = Unmanaged.passRetained(self)
        defer { keptAlive.release() }
        guard monitor.append(job, limit: limit) else {
            queuedGauge.set(Double(monitor.load.queued))
            return
        }
        guard !startThread() else { return }
        // Without memory for even one thread the work still has to be done: here, on the caller's thread.
        if let orphan = monitor.threadFailed() {
            orphan.runSynchronously(on: asUnownedTaskExecutor())
        }
    }

    private func startThread() -> Bool {
        var thread = pthread_t()
        let retained = Unmanaged.passRetained(self)
        guard pthread_create(&thread, nil, executorThread, retained.toOpaque()) == 0 else {
            retained.release()
            return false
        }
        pthread_detach(thread)
        return true
    }

    fileprivate func work() {
        apus_set_thread_name(name)
        threadsGauge.set(Double(monitor.load.threads))
        while let job = monitor.take(idleSeconds: Self.idleSeconds) {
            queuedGauge.set(Double(monitor.load.queued))
            job.runSynchronously(on: asUnownedTaskExecutor())
        }
        threadsGauge.set(Double(monitor.load.threads))
    }
}

private func executorThread(_ context: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    if let context { Unmanaged<BlockingExecutor>.fromOpaque(context).takeRetainedValue().work() }
    return nil
}

/// The queue and the count of threads behind one mutex and one condition.
///
/// `Synchronization.Mutex` has no condition to wait on with a timeout, hence the C library's.
// Sendable: every access to the mutable state happens between lock() and unlock().
private final class Monitor: @unchecked Sendable {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var queue: [UnownedJob] = []
    private var head = 0
    private var threads = 0
    private var idle = 0
    private var isShutDown = false

    init() {
        pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(condition, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    var load: (queued: Int, threads: Int) {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return (queue.count - head, threads)
    }

    /// Queues a job; true when the caller must start a thread, which is then already counted.
    func append(_ job: UnownedJob, limit: Int) -> Bool {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        queue.append(job)
        if idle >= queue.count - head {
            pthread_cond_signal(condition)
            return false
        }
        guard threads < limit else { return false }
        threads += 1
        return true
    }

    /// Takes back the count of a thread that could not start; a job when no other thread will take it.
    func threadFailed() -> UnownedJob? {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        threads -= 1
        return threads == 0 && head < queue.count ? pop() : nil
    }

    /// The next job; `nil` when the thread shall end, which is then no longer counted.
    func take(idleSeconds: Int) -> UnownedJob? {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        var end = timespec()
        clock_gettime(CLOCK_MONOTONIC, &end)
        end.tv_sec += idleSeconds
        while head == queue.count {
            idle += 1
            let result = isShutDown ? ETIMEDOUT : pthread_cond_timedwait(condition, mutex, &end)
            idle -= 1
            if result == ETIMEDOUT, head == queue.count {
                threads -= 1
                return nil
            }
        }
        return pop()
    }

    func shutDown() {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        isShutDown = true
        pthread_cond_broadcast(condition)
    }

    private func pop() -> UnownedJob {
        let job = queue[head]
        head += 1
        if head == queue.count {
            queue.removeAll(keepingCapacity: queue.count <= 1_024)
            head = 0
        } else if head >= 1_024 {
            queue.removeFirst(head)
            head = 0
        }
        return job
    }
}
