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
        var running: Task<DiskSpace, any Error>?
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
        let task = state.withLock { state in
            if let running = state.running { return running }
            let made = Task { [files, measure] in
                try await files.run { () throws(Failure) in try measure() }
            }
            state.running = made
            return made
        }
        do {
            let space = try await within(patience, task)
            let wasLate = state.withLock { state in
                defer { state = State(last: space) }
                return state.isLate
            }
            if wasLate { log.notice("the instances' file system answers again") }
            return (space, true)
        } catch {
            try Task.checkCancellation()
            let (last, wasLate) = state.withLock { state in
                // One that still runs is waited for by the next reader, too.
                if !(error is Late) { state.running = nil }
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

    private func within(_ limit: Duration, _ task: Task<DiskSpace, any Error>) async throws -> DiskSpace {
        let clock = clock
        let (results, sink) = AsyncStream.makeStream(of: Result<DiskSpace, any Error>.self)
        // Not children: a thread that hangs in the kernel cannot be cancelled, and must not be waited for.
        let watch = Task { sink.yield(await task.result) }
        let alarm = Task {
            do { try await clock.sleep(for: limit) } catch { return }
            sink.yield(.failure(Late(limit: limit)))
        }
        defer {
            alarm.cancel()
            watch.cancel()
        }
        for await result in results { return try result.get() }
        throw CancellationError()
    }
}
