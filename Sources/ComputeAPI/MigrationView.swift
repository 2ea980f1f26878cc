internal import Crypto
internal import Model

/// A migration as clients see it.
struct MigrationView {
    let migration: MigrationRecord
    let addresses: [HostName: String]

    init(_ migration: MigrationRecord, _ addresses: [HostName: String]) {
        (self.migration, self.addresses) = (migration, addresses)
    }

    /// As `os-migrations` lists it.
    func write(_ call: ComputeCall, to writer: inout JSONWriter) {
        writer.member("id", migration.number)
        if call.isAtLeast(59) { writer.member("uuid", migration.id.rawValue) }
        writePlaces(&writer)
        writer.member("instance_uuid", migration.instance.rawValue)
        writer.member("old_instance_type_id", Self.number(migration.formerFlavor))
        writer.member("new_instance_type_id", Self.number(migration.newFlavor))
        if call.isAtLeast(23) {
            writer.member("migration_type", migration.type.rawValue)
            if migration.type == .liveMigration, !migration.status.isOver {
                call.writeLinks("servers/\(migration.instance)/migrations/\(migration.number)", to: &writer)
            }
        }
        if call.isAtLeast(80) { writeOwner(&writer) }
    }

    /// As a live one under way is shown of its server.
    func writeLive(_ call: ComputeCall, to writer: inout JSONWriter) {
        writer.member("id", migration.number)
        if call.isAtLeast(59) { writer.member("uuid", migration.id.rawValue) }
        writePlaces(&writer)
        writer.member("server_uuid", migration.instance.rawValue)
        let progress = migration.progress
        writer.member("memory_total_bytes", progress?.memoryTotal)
        writer.member("memory_processed_bytes", progress?.memoryProcessed)
        writer.member("memory_remaining_bytes", progress?.memoryRemaining)
        writer.member("disk_total_bytes", progress?.diskTotal)
        writer.member("disk_processed_bytes", progress?.diskProcessed)
        writer.member("disk_remaining_bytes", progress?.diskRemaining)
        if call.isAtLeast(80) { writeOwner(&writer) }
    }

    private func writePlaces(_ writer: inout JSONWriter) {
        writer.member("status", migration.status.rawValue)
        writer.member("source_compute", migration.sourceHost.rawValue)
        writer.member("source_node", migration.sourceNode)
        writer.member("dest_compute", migration.destinationHost?.rawValue)
        writer.member("dest_node", migration.destinationNode)
        writer.member("dest_host", migration.destinationHost.flatMap { addresses[$0] })
        writer.member("created_at", migration.createdAt.iso8601MicrosecondsWithoutZone)
        writer.member("updated_at", migration.updatedAt.iso8601MicrosecondsWithoutZone)
    }

    private func writeOwner(_ writer: inout JSONWriter) {
        writer.member("user_id", migration.userID.rawValue)
        writer.member("project_id", migration.projectID.rawValue)
    }

    /// Clients expect a number where Apus has an id: the id itself where it is one, else 31 bits of its digest.
    private static func number(_ flavor: FlavorID) -> Int64 {
        if let number = Int64(flavor.rawValue), number >= 0 { return number }
        return digest(.sha256, of: Array(flavor.rawValue.utf8)).prefix(4).reduce(0) { $0 << 8 | Int64($1) }
            & 0x7FFF_FFFF
    }
}
