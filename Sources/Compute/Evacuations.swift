internal import Model
internal import RPC
internal import SQL
internal import SQLite
internal import Telemetry

/// Answers for what was evacuated from this host while it was given up: removes the stale copies before the host counts as
/// up. A record of an evacuation with a newer generation than this host's own is the only evidence; nothing is removed by
/// any other.
actor Evacuations {
    private static let pauses = RetryPolicy(
        maxAttempts: .max, initialBackoff: .milliseconds(500), maxBackoff: .seconds(15))

    private let host: HostName
    private let journal: Journal
    private let driver: any VirtDriver
    private let client: RPCClient
    private let dispatcher: Dispatcher
    private let ends: AsyncStream<Void>
    private nonisolated let sink: AsyncStream<Void>.Continuation
    private let log = Logger("agent.evacuations")

    init(host: HostName, journal: Journal, driver: any VirtDriver, client: RPCClient, dispatcher: Dispatcher) {
        (self.host, self.journal, self.driver, self.client) = (host, journal, driver, client)
        self.dispatcher = dispatcher
        (ends, sink) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    /// Told that an operation is over.
    nonisolated func ended() { sink.yield() }

    /// Before anything is done that could start a guest: has the end of each stale one stand first in its lane. Waits for
    /// as long as no conductor answers.
    func prepare() async throws {
        var attempt = 0
        var generator = SystemRandomNumberGenerator()
        while true {
            do {
                return try await begin()
            } catch let failure as Failure {
                if attempt == 0 {
                    log.notice(
                        "no guest is started before a conductor says what was evacuated", ["failure": failure])
                }
                attempt += 1
                try await AlarmClock().sleep(for: Self.pauses.backoff(after: attempt, using: &generator))
            }
        }
    }

    private func begin() async throws {
        for evacuated in try await ask() { _ = try await dispatcher.discard(evacuated) }
    }

    /// Returns when nothing that was evacuated is left here, and the conductor knows it. Throws when no conductor answers.
    func answer() async throws {
        var attempt = 0
        var generator = SystemRandomNumberGenerator()
        while true {
            let evacuated = try await ask()
            guard !evacuated.isEmpty else { return }
            var gone: [MigrationID] = []
            var isAllGone = true
            for item in evacuated {
                if try await isDone(item) { gone.append(item.migration) } else { isAllGone = false }
            }
            if try await isConfirmed(gone), isAllGone { continue }
            attempt += 1
            try await AlarmClock().sleep(for: Self.pauses.backoff(after: min(attempt, 2), using: &generator))
        }
    }

    /// `false` when something has changed since it was asked for.
    private func isConfirmed(_ gone: [MigrationID]) async throws -> Bool {
        guard !gone.isEmpty else { return true }
        do {
            _ = try await client.call(ConfirmEvacuated.self, .init(host: host, migrations: gone))
        } catch {
            guard error.kind == .conflict else { throw error }
            return false
        }
        log.notice("what was evacuated has been removed", ["count": gone.count])
        return true
    }

    private func ask() async throws -> [ListEvacuated.Evacuated] {
        do {
            return try await client.call(ListEvacuated.self, .init(host: host)).evacuated
        } catch {
            // Conductors of an earlier release evacuate nothing.
            guard error.kind == .methodNotFound else { throw error }
            return []
        }
    }

    /// Removes one, or turns it off while that is not decided; `false` when it must be looked at again.
    private func isDone(_ evacuated: ListEvacuated.Evacuated) async throws -> Bool {
        let id = evacuated.instance
        do {
            if !evacuated.isGone {
                guard let seen = try await driver.observe(id), seen.isOurs, seen.isOn else { return false }
            }
            guard let operation = try await dispatcher.discard(evacuated) else { return evacuated.isGone }
            log.notice(
                evacuated.isGone
                    ? "an instance that was evacuated is removed" : "an instance that is being evacuated is turned off",
                ["instance": id, "migration": evacuated.migration.rawValue])
            if let failure = try await end(of: operation) { throw failure }
            if evacuated.isGone, evacuated.sharesDisks == nil {
                log.warning(
                    "nobody knows whether the disks of an evacuated instance are in use; they stay", ["instance": id])
            }
            return evacuated.isGone
        } catch let failure as Failure {
            log.error(
                "an instance that was evacuated cannot be removed yet; the host is not up before",
                ["instance": id, "failure": failure])
            return false
        }
    }

    /// Why an operation failed, when it has ended.
    private func end(of id: TaskID) async throws -> Failure? {
        if let outcome = try await outcome(of: id) { return outcome.failure }
        for await _ in ends {
            if let outcome = try await outcome(of: id) { return outcome.failure }
        }
        throw CancellationError()
    }

    private func outcome(of id: TaskID) async throws -> OperationOutcome? {
        guard let operation = try await journal.database.read({ try $0.operation(id) }) else {
            throw Failure(.internalError, "operation \(id) is not on record")
        }
        return operation.outcome
    }
}
