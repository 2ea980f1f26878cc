internal import Configuration
internal import HTTP
internal import Model
internal import RPC
internal import SQLite
internal import TaskStore
internal import Tasks
internal import Telemetry

extension AgentCore {
    private static var log: Logger { Logger("agent") }
    /// How long the start waits for a conductor's list of instances.
    private static var comparisonTimeout: Duration { .seconds(3) }

    /// Recovers, then serves until it is cancelled. `serving` is called with the port once commands are taken.
    func run(serving: @escaping @Sendable (UInt16) -> Void) async throws {
        let start = ContinuousClock.now
        // Before the engine runs: what it has leased since would be taken from it.
        try await engine.recover()
        try await dispatcher.repairLanes()
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await outbox.run() }
            group.addTask { await watcher.run() }
            group.addTask { try await engine.run() }
            group.addTask {
                let isCompared = await compare()
                try await settle()
                try Task.checkCancellation()
                Self.log.notice("recovered", ["seconds": (ContinuousClock.now - start).inSeconds])
                try await withThrowingTaskGroup(of: Void.self) { services in
                    services.addTask { await reporter.run() }
                    services.addTask { await heartbeats().run() }
                    services.addTask { await periodicRunner(isCompared: isCompared).run() }
                    services.addTask { try await serve(serving) }
                    if !configuration[ComputeOptions.metricsListen].isEmpty {
                        services.addTask { try await serveMetrics() }
                    }
                    defer { services.cancelAll() }
                    while try await services.next() != nil { try Task.checkCancellation() }
                }
            }
            // The first part that ends, by cancellation or by an error, takes the others with it.
            defer { group.cancelAll() }
            try await group.next()
        }
    }

    /// Compares with the control plane if it answers at once.
    private func compare() async -> Bool {
        do {
            try await comparison.run(timeout: Self.comparisonTimeout)
            return true
        } catch {
            Self.log.notice("no conductor answers yet; the comparison follows", ["error": LoggedError(error)])
            return false
        }
    }

    /// Waits until what the last agent left is finished or undone; goes on without the slow ones after the configured
    /// time.
    private func settle() async throws {
        let left = await recovery.settled(within: configuration[ComputeOptions.recoveryTimeout])
        if left > 0 { Self.log.warning("operations of the last life still run", ["count": left]) }
        try await audit()
    }

    /// Recomputes the claims from the guests: each guest has one, and nothing else has.
    func audit() async throws {
        let (tracker, moment) = (tracker, journal.now())
        let (made, removed) = try await journal.database.write { connection in
            let guests = try connection.guests()
            let claims = try connection.claims()
            let claimed = Set(claims.map(\.instance))
            let known = Set(guests.map(\.id))
            let lost = guests.filter { !claimed.contains($0.id) }
            for guest in lost {
                let claim = Claim(
                    id: ClaimID("\(guest.id)"), instance: guest.id, resources: guest.specification.instance.resources)
                try connection.insert(claim, now: moment)
            }
            let stale = claims.filter { !known.contains($0.instance) }
            for claim in stale { try connection.forgetGuest(claim.instance) }
            tracker.restore(try connection.claims())
            return (lost.count, stale.count)
        }
        if made + removed > 0 {
            Self.log.error("the audit corrected the claims", ["made": made, "removed": removed])
        }
    }

    private func heartbeats() -> Heartbeats {
        Heartbeats(
            host: identity.host, interval: configuration[ComputeOptions.reportInterval], journal: journal,
            client: client, sequence: { sequence.next() }, heard: { await outbox.linkIsUp() })
    }

    private func periodicRunner(isCompared: Bool) -> PeriodicRunner {
        PeriodicRunner(
            [
                PeriodicTask(
                    "update_available_resource", interval: configuration[ComputeOptions.updateResourcesInterval],
                    run: {
                        try await audit()
                        try await reporter.measure()
                        try await dispatcher.repairLanes()
                    }),
                PeriodicTask(
                    "sync_power_states", interval: configuration[ComputeOptions.syncPowerStateInterval],
                    run: {
                        if await watcher.isConnected { try await watcher.compareAll() }
                    }),
                PeriodicTask(
                    "compare_with_control_plane", interval: .seconds(isCompared ? 600 : 30), isImmediate: !isCompared,
                    run: { try await comparison.run(timeout: .seconds(20)) }),
                PeriodicTask(
                    "remove_leftovers", interval: configuration[ComputeOptions.instanceDeleteInterval],
                    run: {
                        for guest in try await journal.guests() where guest.isLeftover {
                            try await dispatcher.cleanUp(guest)
                        }
                    }),
                PeriodicTask("trim_journal", interval: .seconds(3_600), run: { try await trim() }),
            ], fuzz: configuration[ComputeOptions.periodicFuzzyDelay])
    }

    private func trim() async throws {
        let day = Duration.seconds(86_400)
        let moment = journal.now()
        _ = try await SQLiteTaskStorage(database: journal.database).trim(finishedBefore: moment - day)
        try await SQLiteIdempotencyStore(database: journal.database).trim(before: moment - day)
        _ = try await journal.trim(olderThan: day, fences: .seconds(30 * 86_400))
    }
}
