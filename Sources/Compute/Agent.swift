public import Configuration
internal import HTTP
internal import Model
internal import RPC
internal import SQL
internal import SQLite
internal import Synchronization
internal import Tasks
public import Telemetry

/// One host's agent: takes commands from conductors, carries them out through a hypervisor driver, and reports.
///
/// `run()` is its whole life. Guests outlive it; what it was in the middle of it finishes or undoes in its next life.
public final class Agent: Sendable {
    private enum Phase {
        case starting([CheckedContinuation<Bool, Never>])
        case serving(port: UInt16)
        case ended
    }

    private let configuration: Configuration
    private let driver: any VirtDriver
    private let conductors: [String]
    private let now: Now
    private let undoAttempts: Int
    /// Called with the parts before any of them runs; for tests that end an agent at a certain point.
    private let prepare: @Sendable (AgentCore) -> Void
    private let phase = Mutex<Phase>(.starting([]))
    let core = Mutex<AgentCore?>(nil)

    /// An agent of the host that `configuration` names, which must have joined (`joinHost`).
    ///
    /// `conductors` are URLs, and win over `[compute] conductors` and over those that the host joined.
    public convenience init(
        configuration: Configuration, driver: any VirtDriver, conductors: [String] = [],
        now: @escaping Now = WallClock.now
    ) {
        self.init(configuration: configuration, driver: driver, conductors: conductors, now: now) { _ in }
    }

    init(
        configuration: Configuration, driver: any VirtDriver, conductors: [String], now: @escaping Now,
        undoAttempts: Int = 3, prepare: @escaping @Sendable (AgentCore) -> Void
    ) {
        (self.configuration, self.driver, self.conductors) = (configuration, driver, conductors)
        (self.now, self.undoAttempts, self.prepare) = (now, undoAttempts, prepare)
    }

    /// Runs the agent until it is cancelled. Throws when it cannot start (`Failure`, `SQLError`: another agent has
    /// the journal, the journal is newer, the hypervisor cannot be used, the port is taken), or a part of it breaks.
    public func run() async throws {
        defer { end() }
        let core = try await AgentCore.make(
            configuration: configuration, driver: driver, conductors: conductors, undoAttempts: undoAttempts, now: now)
        self.core.withLock { $0 = core }
        prepare(core)
        do {
            try await core.run { self.serves(on: $0) }
        } catch {
            await core.close()
            if Task.isCancelled, error is CancellationError { return }
            throw error
        }
        await core.close()
    }

    /// Waits until the agent takes commands. False when it ended before.
    public func ready() async -> Bool {
        await withCheckedContinuation { continuation in
            let answer = phase.withLock { phase -> Bool? in
                switch phase {
                case .starting(let waiting):
                    phase = .starting(waiting + [continuation])
                    return nil
                case .serving: return true
                case .ended: return false
                }
            }
            if let answer { continuation.resume(returning: answer) }
        }
    }

    /// The port that the agent listens on; `nil` before it does and after its end.
    public var port: UInt16? {
        phase.withLock { if case .serving(let port) = $0 { port } else { nil } }
    }

    /// Domains that are ours by their mark but in no record: left alone, for a person to look at.
    public var orphans: [GuestObservation] {
        get async { await core.withLock { $0 }?.watcher.orphans ?? [] }
    }

    private func serves(on port: UInt16) { settle(.serving(port: port), true) }

    private func end() { settle(.ended, false) }

    private func settle(_ next: Phase, _ answer: Bool) {
        let waiting = phase.withLock { phase -> [CheckedContinuation<Bool, Never>] in
            defer { phase = next }
            if case .starting(let waiting) = phase { return waiting }
            return []
        }
        for continuation in waiting { continuation.resume(returning: answer) }
    }
}
