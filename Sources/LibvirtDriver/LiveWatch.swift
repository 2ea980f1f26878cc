internal import Configuration
internal import Libvirt
internal import Model
internal import Synchronization
internal import Telemetry

/// Watches one guest that is being sent: tells how far it is, gives it more standstill step by step, and does what is to be
/// done when it takes too long. What becomes of it the call itself says.
final class LiveWatch: Sendable {
    struct Settings: Sendable, Hashable {
        var downtime: Duration
        var steps: Int
        /// For each GiB.
        var delay: Duration
        /// For each GiB; `nil` for none.
        var timeout: Duration?
        var action: LiveOptions.TimeoutAction
        var permitsPostCopy: Bool

        init(_ configuration: Configuration) {
            downtime = .milliseconds(configuration[LiveOptions.downtime])
            steps = configuration[LiveOptions.downtimeSteps]
            delay = configuration[LiveOptions.downtimeDelay]
            let timeout = configuration[LiveOptions.completionTimeout]
            self.timeout = timeout > .zero ? timeout : nil
            action = configuration[LiveOptions.timeoutAction]
            permitsPostCopy = configuration[LiveOptions.permitsPostCopy]
        }

        /// How much standstill the guest may have after `elapsed`: a little at first, all of it after the last step.
        func downtime(after elapsed: Duration, gibibytes: Int) -> Duration {
            let base = downtime / steps
            let step = min(steps, Int(elapsed.inSeconds / (delay * gibibytes).inSeconds))
            return base + (downtime - base) * step / steps
        }
    }

    /// As long as the API lets a host take.
    static let callDeadline = Duration.seconds(48 * 3_600)
    private static let pause = Duration.milliseconds(500)
    /// GiB that every guest counts with at least.
    private static let leastGiB = 2

    private struct State {
        var reason: Failure?
        var isForced = false
        var downtime: Duration?
        var isPostCopy = false
    }

    private let id: InstanceID
    private let name: String
    private let settings: Settings
    private let connection: LibvirtConnection
    private let clock: any Clock<Duration>
    private let progress: @Sendable (MigrationProgress, Bool) async -> Void
    private let state = Mutex(State())
    private let log = Logger("libvirt-driver.live")

    init(
        id: InstanceID, name: String, settings: Settings, connection: LibvirtConnection, clock: any Clock<Duration>,
        progress: @escaping @Sendable (MigrationProgress, Bool) async -> Void
    ) {
        (self.id, self.name, self.settings, self.connection) = (id, name, settings, connection)
        (self.clock, self.progress) = (clock, progress)
    }

    /// Why it was ended from here, if it was.
    var reason: Failure? { state.withLock { $0.reason } }

    /// Has the job ended, unless it is past the point; as often as it takes, since one that has just begun cannot be aborted.
    func abort() { note(Failure(.cancelled, "the migration of \(name) was aborted")) }

    /// Until it is cancelled.
    func run() async {
        let begin = ContinuousClock.now
        var rounds = 0
        while !Task.isCancelled {
            do {
                if let job = try await connection.migrationJob(.uuid(id.rawValue)) {
                    if reason != nil {
                        await attempt("an abort") { (connection, guest) throws(LibvirtError) in
                            try await connection.abortJob(guest)
                        }
                    }
                    let elapsed = begin.duration(to: .now)
                    if rounds % 2 == 0 { await progress(MigrationProgress(job), state.withLock { $0.isPostCopy }) }
                    rounds += 1
                    await act(job, after: elapsed)
                }
            } catch {
                // The call itself, too, will say that libvirt is away; until then there is nothing to be told.
                log.debug("a migration's progress is not known", ["instance": id, "error": "\(error)"])
            }
            do { try await AlarmClock().sleep(for: Self.pause) } catch { return }
        }
    }

    private func act(_ job: MigrationJob, after elapsed: Duration) async {
        let gibibytes = max(Self.leastGiB, Int(job.memoryTotal >> 30) + Int(job.diskTotal >> 30))
        let wanted = settings.downtime(after: elapsed, gibibytes: gibibytes)
        let isNew = state.withLock { state in
            defer { state.downtime = wanted }
            return state.downtime != wanted && !state.isPostCopy
        }
        if isNew {
            await attempt("more standstill") { (connection, guest) throws(LibvirtError) in
                try await connection.setMaximumDowntime(guest, wanted)
            }
        }
        guard let timeout = settings.timeout, elapsed > timeout * gibibytes else { return }
        switch settings.action {
        case .abort:
            note(
                Failure(
                    .timeout,
                    "the migration of \(name) was aborted: it was not done within \((timeout * gibibytes).inSeconds) s")
            )
        case .forceComplete: await force()
        }
    }

    private func force() async {
        guard
            state.withLock({ state in
                defer { state.isForced = true }
                return !state.isForced
            })
        else { return }
        let permitsPostCopy = settings.permitsPostCopy
        await attempt("a forced end") { (connection, guest) throws(LibvirtError) in
            if permitsPostCopy {
                try await connection.startPostCopy(guest)
            } else {
                try await connection.suspend(guest)
            }
        }
        if permitsPostCopy { state.withLock { $0.isPostCopy = true } }
    }

    private func note(_ reason: Failure) {
        state.withLock { state in if state.reason == nil { state.reason = reason } }
    }

    private func attempt(
        _ what: String, _ body: (LibvirtConnection, DomainReference) async throws(LibvirtError) -> Void
    ) async {
        do throws(LibvirtError) {
            try await body(connection, .uuid(id.rawValue))
        } catch {
            log.notice(
                "a guest that is sent was not given what was wanted",
                ["instance": id, "what": what, "error": "\(error)"])
        }
    }
}

extension MigrationProgress {
    init(_ job: MigrationJob) {
        self.init(
            memoryTotal: Int64(clamping: job.memoryTotal), memoryProcessed: Int64(clamping: job.memoryProcessed),
            memoryRemaining: Int64(clamping: job.memoryRemaining), diskTotal: Int64(clamping: job.diskTotal),
            diskProcessed: Int64(clamping: job.diskProcessed), diskRemaining: Int64(clamping: job.diskRemaining))
    }
}
