public import Model
public import RPC
internal import SQL

/// How operations on hosts ended: kept until the task that waits for the report has ended.
public struct OperationReportStore: Sendable {
    let database: any SQLDatabase

    /// Keeps the first report of a task from a host; a repetition changes nothing.
    public func record(_ report: ReportOperation.Params, now: Timestamp) async throws {
        _ = try await database.write { connection in
            try connection.execute(
                """
                INSERT INTO operation_reports (task_id, host, report, received_at) VALUES (?, ?, ?, ?)
                ON CONFLICT (task_id, host) DO NOTHING
                """,
                [
                    .text(report.header.task.rawValue), .text(report.host.rawValue),
                    .text(try Record.encode(report)), .integer(now.microseconds),
                ])
        }
    }

    public func find(task: TaskID, host: HostName) async throws -> ReportOperation.Params? {
        try await database.read { connection in
            try connection.first(
                "SELECT report FROM operation_reports WHERE task_id = ? AND host = ?",
                [.text(task.rawValue), .text(host.rawValue)]
            ) { try Record.decode(ReportOperation.Params.self, $0.text(0)) }
        }
    }

    /// Removes reports that came before `moment` and that no unfinished task can wait for, and says how many. However
    /// old: conductors may have been down for longer than reports are kept.
    @discardableResult
    public func trim(before moment: Timestamp) async throws -> Int {
        try await database.write { connection in
            try connection.execute(
                """
                DELETE FROM operation_reports WHERE received_at < ? AND NOT EXISTS (
                    SELECT 1 FROM tasks WHERE tasks.finished_at IS NULL AND (tasks.id = operation_reports.task_id
                        OR operation_reports.task_id LIKE tasks.id || '#%'))
                """, [.integer(moment.microseconds)])
        }
    }
}
