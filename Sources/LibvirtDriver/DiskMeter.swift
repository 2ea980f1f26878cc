internal import Model
internal import Synchronization
internal import Telemetry

/// What the instances' file system has.
struct DiskSpace: Sendable, Hashable {
    var freeBytes: Int64
    var totalBytes: Int64
    /// What sparse disks may still come to take.
    var promisedBytes: Int64
    /// The kind of a file system that other hosts may use too; `nil` for a local one.
    var sharedKind: String?
}

/// Measures the instances' file system, which may be a network's and hang: then the last figures stand, and no more than
/// one thread waits for it.
final class DiskMeter: Sendable {
    private struct State {
        var last: DiskSpace?
        var isRunning = false
        /// Who waits for the measurement that runs.
        var waiters: [Int: AsyncStream<Result<DiskSpace, any Error>>.Continuation] = [:]
        var nextWaiter = 0
        var isLate = false
    }

    private let files: BlockingExecutor
    private let clock: any Clock<Duration>
    private let patience: Duration
    private let measure: @Sendable () throws(Failure) -> DiskSpace
    private let state = Mutex(State())
    private let log = Logger("libvirt-driver")

    init(
        files: BlockingExecutor, clock: any Clock<Duration>, patience: Duration = .seconds(5),
        measure: @escaping @Sendable () throws(Failure) -> DiskSpace
    ) {
        (self.files, self.clock, self.patience, self.measure) = (files, clock, patience, measure)
    }

    /// The figures, and whether they are of now. Throws when there are none, old or new.
    func read() async throws -> (space: DiskSpace, isFresh: Bool) {
        do {
            let space = try await measured()
            let wasLate = state.withLock { state in
                defer { (state.last, state.isLate) = (space, false) }
                return state.isLate
            }
            if wasLate { log.notice("the instances' file system answers again") }
            return (space, true)
        } catch {
            try Task.checkCancellation()
            let (last, wasLate) = state.withLock { state in
                defer { state.isLate = true }
                return (state.last, state.isLate)
            }
            guard let last else { throw (error as? Failure) ?? Failure(.storage, "\(error)", isRetriable: true) }
            if !wasLate {
                log.warning(
                    "the instances' file system cannot be measured; the last figures stand",
                    ["error": LoggedError(error)])
            }
            return (last, false)
        }
    }

    private struct Late: Error, CustomStringConvertible {
        let limit: Duration
        var description: String { "the instances' file system has not answered for \(limit.inSeconds) s" }
    }

    /// Waits for the measurement that runs, or a new one, no longer than the patience lasts. One that hangs is waited for
    /// by the next reader, too: its thread cannot be cancelled.
    private func measured() async throws -> DiskSpace {
        let (results, sink) = AsyncStream.makeStream(of: Result<DiskSpace, any Error>.self)
        let (id, mustBegin) = state.withLock { state in
            state.nextWaiter += 1
            state.waiters[state.nextWaiter] = sink
            defer { state.isRunning = true }
            return (state.nextWaiter, !state.isRunning)
        }
        if mustBegin { begin() }
        let (clock, limit) = (clock, patience)
        let alarm = Task {
            do { try await clock.sleep(for: limit) } catch { return }
            sink.yield(.failure(Late(limit: limit)))
        }
        defer {
            alarm.cancel()
            state.withLock { _ = $0.waiters.removeValue(forKey: id) }
        }
        for await result in results { return try result.get() }
        throw CancellationError()
    }

    private func begin() {
        Task {
            let result: Result<DiskSpace, any Error>
            do {
                result = .success(try await files.run { [measure] () throws(Failure) in try measure() })
            } catch {
                result = .failure(error)
            }
            let waiters = state.withLock { state in
                defer { (state.isRunning, state.waiters) = (false, [:]) }
                return state.waiters.values
            }
            for waiter in waiters { waiter.yield(result) }
        }
    }
}
