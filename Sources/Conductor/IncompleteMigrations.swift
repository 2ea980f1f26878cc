internal import Database
internal import Model
internal import RPC
internal import Tasks
internal import Telemetry

/// Has both hosts of a migration that ended in error remove what it may have left there, once its instance is deleted.
/// While the instance lives its own tasks see to that, and a host's leftovers may be all that there is of it.
struct IncompleteMigrations: Sendable {
    let database: ControlDatabase
    private let log = Logger("conductor")

    init(database: ControlDatabase) { self.database = database }

    /// One look; says how many migrations it has closed.
    func close(now: Timestamp) async throws -> Int {
        var count = 0
        for migration in try await database.migrations.incomplete() {
            let hosts = Set([migration.sourceHost, migration.destinationHost].compactMap { $0 }).sorted()
            let requestID = RequestScope.makeID()
            let isClosed = try await database.migrations.close(incomplete: migration.id, now: now) { instance in
                try hosts.map { host in
                    var row = try TaskEngine.makeRow(
                        kind: TaskKind.cleanup, instance: instance.id, requestID: requestID,
                        generation: instance.fence.generation,
                        state: CleanupTaskState(instance: instance.id, host: host), now: now)
                    row.id = TaskID("\(migration.id)/cleanup/\(host)")
                    return row
                }
            }
            guard isClosed else { continue }
            count += 1
            log.notice(
                "a deleted instance's migration is cleaned up after",
                ["instance": migration.instance, "migration": migration.id.rawValue])
        }
        return count
    }
}
