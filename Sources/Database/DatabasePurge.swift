public import Model
internal import SQL

/// The rows of deleted instances that were removed, by table.
public struct PurgeCount: Sendable, Hashable {
    public var instances = 0
    public var actions = 0
    public var events = 0

    public init() {}
}

extension ControlDatabase {
    /// Forgets instances that were deleted before `moment`, with their actions and events: at most `limit` instances, the
    /// longest deleted first, in one transaction.
    ///
    /// - Parameter archive: is given the rows as lines of JSON before they are removed, and returns when they are safe;
    ///   what it throws undoes the transaction. It is given the same rows again when the transaction is run again.
    /// - Returns: what was removed; nothing when there is nothing left to remove.
    public func purge(
        deletedBefore moment: Timestamp, limit: Int = 1_000,
        archive: (@Sendable ([String]) throws -> Void)? = nil
    ) async throws -> PurgeCount {
        try await database.write { connection in
            let ids = try connection.query(
                """
                SELECT id FROM instances WHERE deleted_at IS NOT NULL AND deleted_at < ? AND NOT EXISTS (
                    SELECT 1 FROM tasks WHERE tasks.instance_id = instances.id AND tasks.finished_at IS NULL)
                ORDER BY deleted_at, id LIMIT ?
                """, [.integer(moment.microseconds), SQLValue(max(0, limit))]
            ) { $0.text(0) }
            if let archive, !ids.isEmpty { try archive(try Self.lines(of: ids, connection)) }
            var count = PurgeCount()
            for id in ids {
                count.events += try connection.execute(
                    "DELETE FROM instance_events WHERE instance_id = ?", [.text(id)])
                count.actions += try connection.execute(
                    "DELETE FROM instance_actions WHERE instance_id = ?", [.text(id)])
                // What a host is still to remove of the instance (`evacuations`) stays until it has.
                try connection.execute("DELETE FROM migrations WHERE instance_id = ?", [.text(id)])
                try connection.execute("DELETE FROM server_group_members WHERE instance_id = ?", [.text(id)])
                count.instances += try connection.execute("DELETE FROM instances WHERE id = ?", [.text(id)])
            }
            return count
        }
    }

    private static func lines(of ids: [String], _ connection: SQLConnection) throws -> [String] {
        let shapes = try connection.tables()
        var lines: [String] = []
        for id in ids {
            for (table, column) in Self.rowsOfInstance {
                guard let shape = shapes.first(where: { $0.name == table }) else { continue }
                try connection.forEach(
                    "SELECT \(shape.columns.joined(separator: ", ")) FROM \(table) WHERE \(column) = ?", [.text(id)]
                ) { row in
                    lines.append(TableRow(table: table, values: shape.columns.indices.map { row.value($0) }).line)
                }
            }
        }
        return lines
    }

    private static let rowsOfInstance = [
        ("instances", "id"), ("instance_actions", "instance_id"), ("instance_events", "instance_id"),
        ("server_group_members", "instance_id"), ("migrations", "instance_id"),
    ]
}
