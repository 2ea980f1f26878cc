internal import SQL

/// Numbers that only rise, each given once.
enum Counter: String {
    case instanceNumber = "instance_number"
    case hostRevision = "host_revision"
    case serviceID = "service_id"
    case hostID = "host_id"
    case serviceRevision = "service_revision"
    /// How many services have been deleted.
    case serviceRemovals = "service_removals"
    case aggregateID = "aggregate_id"
    case aggregateRevision = "aggregate_revision"
    case migrationNumber = "migration_number"
    case notificationPosition = "notification_position"

    /// The number that was given last.
    func last(_ connection: SQLConnection) throws -> Int64 {
        try connection.first("SELECT value FROM counters WHERE name = ?", [.text(rawValue)]) { $0.int64(0) } ?? 0
    }

    /// The next number; part of the transaction in which it is used.
    func next(_ connection: SQLConnection) throws -> Int64 {
        let value = try connection.first(
            "UPDATE counters SET value = value + 1 WHERE name = ? RETURNING value", [.text(rawValue)]
        ) { $0.int64(0) }
        guard let value else { throw StoreError.notFound("counter \(rawValue)") }
        return value
    }
}
