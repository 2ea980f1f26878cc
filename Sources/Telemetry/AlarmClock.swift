internal import CSystem
internal import Glibc
internal import Synchronization

/// The continuous clock, with sleeps that leave nothing behind when they are cancelled.
///
/// `ContinuousClock.sleep` keeps the sleeping task and its timer until the deadline, also when the task was cancelled
/// long before. A guard of a call or a step nearly always is, and with deadlines of hours the guards of thousands of
/// operations add up to tens of mebibytes. Here a cancelled sleep's memory is free at once; what stays of it is a
/// number, at most as many as sleeps go on. One thread, started by the first sleep, wakes them all.
public struct AlarmClock: Clock {
    public typealias Instant = ContinuousClock.Instant

    /// The alarms of the process, for it is in vain to have two threads that wait.
    private static let shared = Alarms()

    private let alarms: Alarms

    public init() { alarms = Self.shared }

    /// A clock with alarms of its own, whose number no other one changes.
    init(alarms: Alarms) { self.alarms = alarms }

    public var now: Instant { ContinuousClock.now }

    public var minimumResolution: Duration { .nanoseconds(1) }

    /// Returns at `deadline` or soon after it; throws `CancellationError` as soon as the task is cancelled. `tolerance` is
    /// not made use of.
    public func sleep(until deadline: Instant, tolerance: Duration? = nil) async throws {
        try await alarms.sleep(until: deadline)
    }
}

/// The sleeps under way, by their deadlines, and the thread that wakes them.
///
/// `Synchronization.Mutex` has no condition to wait on with a timeout, hence the C library's.
// Sendable: every access to the mutable state happens between lock() and unlock().
final class Alarms: @unchecked Sendable {
    typealias Sleeper = CheckedContinuation<Void, any Error>
    private typealias Deadline = (moment: ContinuousClock.Instant, number: UInt64)

    /// Numbers of cancelled sleeps that may lie about before they are swept together.
    private static let slack = 64
    /// A longer wait of the thread is cut in two: what the timestamp can hold is a matter of the platform.
    private static let longestWait = Duration.seconds(86_400)

    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var sleepers: [UInt64: Sleeper] = [:]
    /// A heap with the earliest deadline first, those of cancelled sleeps among them.
    private var deadlines: [Deadline] = []
    private var lastNumber: UInt64 = 0
    private var hasThread = false

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

    /// Sleeps that go on, and deadlines that are kept for them.
    var load: (sleepers: Int, deadlines: Int) { locked { (sleepers.count, deadlines.count) } }

    func sleep(until moment: ContinuousClock.Instant) async throws {
        let number = locked {
            lastNumber += 1
            return lastNumber
        }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { begin(number, moment, $0) }
        } onCancel: {
            locked { remove(number) }?.resume(throwing: CancellationError())
        }
    }

    private func begin(_ number: UInt64, _ moment: ContinuousClock.Instant, _ sleeper: Sleeper) {
        let isCancelled = locked {
            // The task is marked before its handler is called: a handler that found no sleeper is seen here.
            if Task.isCancelled { return true }
            sleepers[number] = sleeper
            push((moment, number))
            if deadlines[0].number == number { pthread_cond_signal(condition) }
            return false
        }
        if isCancelled { return sleeper.resume(throwing: CancellationError()) }
        startThread()
    }

    private func remove(_ number: UInt64) -> Sleeper? {
        guard let sleeper = sleepers.removeValue(forKey: number) else { return nil }
        if deadlines.count > 2 * sleepers.count + Self.slack {
            deadlines = deadlines.filter { sleepers[$0.number] != nil }
            // Sorted, it is a heap.
            deadlines.sort { $0.moment < $1.moment }
            if sleepers.isEmpty { sleepers = [:] }
        }
        return sleeper
    }

    // MARK: - Thread

    private func startThread() {
        let isFirst = locked {
            defer { hasThread = true }
            return !hasThread
        }
        guard isFirst else { return }
        var thread = pthread_t()
        let retained = Unmanaged.passRetained(self)
        let result = pthread_create(&thread, nil, alarmThread, retained.toOpaque())
        // Nothing with a time limit would ever end without it.
        guard result == 0 else { fatalError("no thread for the timers: \(String(cString: strerror(result)))") }
        pthread_detach(thread)
    }

    fileprivate func wake() {
        apus_set_thread_name("alarms")
        while true {
            for sleeper in waitForNext() { sleeper.resume() }
        }
    }

    /// The sleepers whose deadline has come; none when it only was time to look again.
    private func waitForNext() -> [Sleeper] {
        locked {
            let now = ContinuousClock.now
            var due: [Sleeper] = []
            while let next = deadlines.first {
                if let sleeper = sleepers[next.number] {
                    guard next.moment <= now else { break }
                    sleepers[next.number] = nil
                    due.append(sleeper)
                }
                pop()
            }
            guard due.isEmpty else { return due }
            if let next = deadlines.first {
                var end = timespec()
                clock_gettime(CLOCK_MONOTONIC, &end)
                let (seconds, attoseconds) = min(now.duration(to: next.moment), Self.longestWait).components
                let nanoseconds = end.tv_nsec + Int(attoseconds / 1_000_000_000) + 1
                end.tv_sec += Int(seconds) + nanoseconds / 1_000_000_000
                end.tv_nsec = nanoseconds % 1_000_000_000
                pthread_cond_timedwait(condition, mutex, &end)
            } else {
                pthread_cond_wait(condition, mutex)
            }
            return []
        }
    }

    // MARK: - Heap

    private func push(_ deadline: Deadline) {
        deadlines.append(deadline)
        var place = deadlines.count - 1
        while place > 0, deadlines[place].moment < deadlines[(place - 1) / 2].moment {
            deadlines.swapAt(place, (place - 1) / 2)
            place = (place - 1) / 2
        }
    }

    private func pop() {
        deadlines.swapAt(0, deadlines.count - 1)
        deadlines.removeLast()
        var place = 0
        while true {
            var least = place
            for child in [2 * place + 1, 2 * place + 2]
            where child < deadlines.count && deadlines[child].moment < deadlines[least].moment { least = child }
            guard least != place else { return }
            deadlines.swapAt(place, least)
            place = least
        }
    }

    private func locked<T>(_ body: () -> T) -> T {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return body()
    }
}

private func alarmThread(_ context: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    if let context { Unmanaged<Alarms>.fromOpaque(context).takeRetainedValue().wake() }
    return nil
}
