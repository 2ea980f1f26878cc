internal import Database
internal import Model
internal import RPC
internal import Tasks
internal import Telemetry

/// Forgets what has ended. Any number of conductors may do it; what one has removed the others do not find.
struct RecordTrim: Sendable {
    let database: ControlDatabase
    /// How long ended tasks, and their hosts' reports, are kept.
    let retention: Duration

    private static let removed = Metrics.shared.counter(
        "conductor_trimmed_tasks_total", help: "Ended tasks that were forgotten.")

    init(database: ControlDatabase, retention: Duration) {
        (self.database, self.retention) = (database, retention)
    }

    /// Removes what ended, or was answered, long enough before `moment`.
    func run(at moment: Timestamp) async throws {
        let count = try await database.tasks.trim(finishedBefore: moment - retention)
        Self.removed.increment(by: count)
        _ = try await database.reports.trim(before: moment - retention)
        _ = try await database.usageAudits.trim(before: moment - retention)
        // A request may come again for a day, whatever is kept of its task.
        try await database.idempotency.trim(before: moment - max(retention, .seconds(86_400)))
    }
}
