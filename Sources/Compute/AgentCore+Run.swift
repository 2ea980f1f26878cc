internal import Configuration
internal import HTTP
internal import Model
internal import Periodic
internal import RPC
internal import SQL
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
        if try await isAboutToStartGuests() { try await evacuations.prepare() }
        try await dispatcher.repairLanes()
        try await resumeAfterBoot()
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await outbox.run() }
            group.addTask { await watcher.run() }
            group.addTask { try await engine.run() }
            group.addTask {
                // Guests that changed while no agent ran, before anybody hears that this one is up.
                await watcher.compareAllOrLater()
                let isCompared = await compare()
                try await settle()
                try Task.checkCancellation()
                Self.log.notice("recovered", ["seconds": (ContinuousClock.now - start).inSeconds])
                try await withThrowingTaskGroup(of: Void.self) { services in
                    services.addTask { await reporter.run() }
                    services.addTask { try await heartbeats().run() }
                    services.addTask { await periodicRunner(isCompared: isCompared).run() }
                    services.addTask { try await serve(serving) }
                    services.addTask { await prefetch.run() }
                    if configuration[ComputeOptions.servesMetadata] {
                        services.addTask { await metadataService.run() }
                    }
                    services.addTask { try await serveMetrics() }
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
        await removeDeadSnapshots()
    }

    /// Removes copies of disks that no operation is about any more.
    func removeDeadSnapshots() async {
        do {
            let found = try await driver.snapshots()
            guard !found.isEmpty else { return }
            // Read after the copies: one that was begun since is not among them.
            let (open, guests) = try await journal.database.read { (try $0.openOperations(), try $0.guests()) }
            let busy = Set(open.filter { $0.kind == .snapshot || $0.kind == .shelve }.map(\.instance))
            // In a folder that hosts share, another host may be at the copy of a guest of its own. What a guest of this host
            // had goes with its disks.
            let here = Set(guests.map(\.id))
            for snapshot in found where here.contains(snapshot.instance) && !busy.contains(snapshot.instance) {
                do {
                    try await driver.removeSnapshot(snapshot.instance, name: snapshot.name)
                    Self.log.notice("a dead operation's copy of a disk was removed", ["instance": snapshot.instance])
                } catch  where !Task.isCancelled {
                    // One that cannot go yet does not keep the others.
                    Self.log.warning(
                        "a dead copy of a disk cannot be removed yet",
                        ["instance": snapshot.instance, "error": LoggedError(error)])
                }
            }
        } catch {
            Self.log.warning("dead copies of disks cannot be removed yet", ["error": LoggedError(error)])
        }
    }

    /// Recomputes the claims from the guests: each guest has one, and nothing else has but a move that is under way.
    func audit() async throws {
        let (tracker, moment) = (tracker, journal.now())
        let (made, removed) = try await journal.database.write { connection in
            let guests = try connection.guests()
            let claims = try connection.claims()
            let claimed = Set(claims.filter { !$0.isMove }.map(\.instance))
            // What is set aside may come back to its room.
            let known = Set(guests.map(\.id)).union(try connection.setAside().map(\.id))
            let lost = guests.filter { !claimed.contains($0.id) }
            for guest in lost {
                let claim = Claim(
                    id: ClaimID("\(guest.id)"), instance: guest.id,
                    resources: tracker.snapshot.charge(for: guest.specification.instance.resources),
                    placement: guest.specification.placement, devices: guest.specification.devices,
                    mediatedDevices: guest.specification.mediatedDevices)
                try connection.insert(claim, now: moment)
            }
            let stale = claims.filter { !$0.isMove && !known.contains($0.instance) }
            for claim in stale { try connection.release(claim) }
            tracker.restore(try connection.claims())
            return (lost.count, stale.count)
        }
        if made + removed > 0 {
            Self.log.error("the audit corrected the claims", ["made": made, "removed": removed])
        }
    }

    private var metadataService: MetadataService {
        MetadataService(
            host: identity.host, driver: driver, journal: journal, client: client,
            cacheLifetime: configuration[ComputeOptions.metadataCacheExpiration])
    }

    func heartbeats() -> Heartbeats {
        Heartbeats(
            host: identity.host, uuid: hostUUID, interval: configuration[ComputeOptions.reportInterval],
            journal: journal,
            client: client, sequence: { sequence.next() }, heard: { await outbox.linkIsUp() },
            answer: { try await evacuations.answer() })
    }

    /// Forgets operations that ended long enough before `moment`, and what was answered to whom a day before it.
    func trim(at moment: Timestamp) async throws {
        let day = Duration.seconds(86_400)
        let age = configuration[ComputeOptions.journalRetention]
        _ = try await SQLTaskStorage(database: journal.database).trim(finishedBefore: moment - age)
        // A command may come again for a day, whatever is kept of its operation.
        try await SQLIdempotencyStore(database: journal.database).trim(before: moment - max(day, age))
        _ = try await journal.trim(at: moment, olderThan: age, fences: max(.seconds(30 * 86_400), age))
    }
}
