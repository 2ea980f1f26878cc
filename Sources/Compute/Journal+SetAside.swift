internal import Model
internal import SQL

/// A guest that has been shut down for a move and whose disks this host keeps until the move is confirmed or taken back.
struct SetAsideRecord: Sendable, Hashable {
    var migration: MigrationID
    /// As it was, and is again when the move is taken back.
    var specification: GuestSpecification
    var vmState: VMState
    var launchedAt: Timestamp?

    var id: InstanceID { specification.instance.id }
}

extension SQLConnection {
    func setAside(_ id: InstanceID) throws -> SetAsideRecord? {
        try query("SELECT \(columns) FROM set_aside WHERE instance = ?", [.text(id.rawValue)], read).first
    }

    func setAside() throws -> [SetAsideRecord] {
        try query("SELECT \(columns) FROM set_aside ORDER BY instance", [], read)
    }

    func put(_ record: SetAsideRecord, now: Timestamp) throws {
        try execute(
            """
            INSERT INTO set_aside (instance, \(columns), updated_at) VALUES (?, ?, ?, ?, ?, ?)
            ON CONFLICT (instance) DO UPDATE SET migration = excluded.migration,
                specification = excluded.specification, vm_state = excluded.vm_state,
                launched_at = excluded.launched_at, updated_at = excluded.updated_at
            """,
            [
                .text(record.id.rawValue), .text(record.migration.rawValue), .blob(try encode(record.specification)),
                .text(record.vmState.rawValue), SQLValue(record.launchedAt?.microseconds),
                .integer(now.microseconds),
            ])
    }

    func forgetSetAside(_ id: InstanceID) throws {
        try execute("DELETE FROM set_aside WHERE instance = ?", [.text(id.rawValue)])
    }
}

private let columns = "migration, specification, vm_state, launched_at"

private func read(_ row: borrowing SQLRow) throws -> SetAsideRecord {
    SetAsideRecord(
        migration: MigrationID(row.text(0)), specification: try decode(GuestSpecification.self, row.blob(1)),
        vmState: VMState(rawValue: row.text(2)) ?? .stopped,
        launchedAt: row.int64OrNil(3).map(Timestamp.init(microseconds:)))
}
