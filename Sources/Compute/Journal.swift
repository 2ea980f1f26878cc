internal import Crypto
internal import FoundationEssentials
internal import HostTopology
internal import Model
internal import RPC
internal import SQL
internal import SQLite
internal import Telemetry

/// The agent's memory on disk: what it holds, what it has promised, what it is in the middle of and what it still has
/// to tell. One SQLite file; every change is durable before the call returns.
struct Journal: Sendable {
    let database: SQLiteDatabase
    let now: Now

    /// Opens the journal at `location` and brings its schema up to date.
    static func open(_ location: SQLiteDatabase.Location, now: @escaping Now) async throws -> Journal {
        let database = try await SQLiteDatabase.open(location)
        do {
            try await database.migrate(JournalSchema.migrations, component: JournalSchema.component)
            try await database.migrate(ClaimEvents.migrations, component: ClaimEvents.component)
        } catch {
            await database.close()
            throw error
        }
        return Journal(database: database, now: now)
    }

    /// The host's persistent uuid, made at the first start.
    func hostUUID() async throws -> String {
        try await database.write { connection in
            if let known = try connection.setting("compute_id") { return known }
            let made = makeUUID()
            try connection.setSetting("compute_id", made)
            return made
        }
    }

    /// A number above every one that this agent gave before, in this life or an earlier one: microseconds of the clock,
    /// or one more than the last where the clock went back.
    func firstSequence() async throws -> Int64 {
        let wanted = now().microseconds
        return try await database.write { connection in
            let last = try connection.setting("sequence").flatMap { Int64($0) } ?? 0
            let first = max(wanted, last + 1)
            // A thousand seconds ahead, so that it need not be written for each report.
            try connection.setSetting("sequence", String(first + 1_000_000_000))
            return first
        }
    }

    /// Whether the journal answers.
    func ping() async throws {
        _ = try await database.read { try $0.first("SELECT count(*) FROM settings") { $0.int(0) } }
    }

    // MARK: Guests and claims

    func guest(_ id: InstanceID) async throws -> GuestRecord? {
        try await database.read { try $0.guest(id) }
    }

    func guests() async throws -> [GuestRecord] {
        try await database.read { try $0.guests() }
    }

    /// Changes what a guest is made of, and gives what it is then; `nil` when there is no record of it.
    func changeGuest(
        _ id: InstanceID, _ body: @escaping @Sendable (inout GuestSpecification) -> Void
    ) async throws -> GuestSpecification? {
        let moment = now()
        return try await database.write { connection in
            guard var guest = try connection.guest(id) else { return nil }
            body(&guest.specification)
            try connection.put(guest, now: moment)
            return guest.specification
        }
    }

    func claims() async throws -> [Claim] {
        try await database.read { try $0.claims() }
    }

    func fence(_ id: InstanceID) async throws -> Fence? {
        try await database.read { try $0.fence(id) }
    }

    /// Forgets ended operations and the fences of instances that left, both after their age at
    /// `moment`.
    func trim(at moment: Timestamp, olderThan operations: Duration, fences: Duration) async throws -> Int {
        try await database.write { connection in
            let gone = try connection.execute(
                "DELETE FROM operations WHERE ended_at IS NOT NULL AND ended_at < ?",
                [.integer((moment - operations).microseconds)])
            let forgotten = try connection.execute(
                """
                DELETE FROM fences WHERE updated_at < ?
                AND instance NOT IN (SELECT instance FROM guests)
                AND instance NOT IN (SELECT instance FROM operations)
                AND instance NOT IN (SELECT instance FROM set_aside)
                """, [.integer((moment - fences).microseconds)])
            try connection.trimClaimEvents()
            return gone + forgotten
        }
    }
}

/// A guest as the journal has it.
struct GuestRecord: Sendable, Hashable {
    var specification: GuestSpecification
    /// What the agent believes that the user wants.
    var vmState: VMState
    /// What was last seen and told.
    var powerState: PowerState
    var launchedAt: Timestamp?
    /// Set when a removal failed: what is left is tried again.
    var isLeftover: Bool

    var id: InstanceID { specification.instance.id }

    /// The report of what the record says.
    func observation(
        from host: HostName, _ fence: Fence, sequence: Int64, _ moment: Timestamp
    ) -> ReportInstance.Params {
        ReportInstance.Params(
            host: host, instance: id, fence: fence, vmState: vmState, powerState: powerState, taskState: nil,
            interfaces: specification.interfaces, sequence: sequence, observedAt: moment)
    }
}

extension SQLConnection {
    func setting(_ key: String) throws -> String? {
        try first("SELECT value FROM settings WHERE key = ?", [.text(key)]) { $0.text(0) }
    }

    func setSetting(_ key: String, _ value: String) throws {
        try execute(
            "INSERT INTO settings (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            [.text(key), .text(value)])
    }

    func fence(_ id: InstanceID) throws -> Fence? {
        try first("SELECT generation, epoch FROM fences WHERE instance = ?", [.text(id.rawValue)]) {
            Fence(generation: $0.int64(0), epoch: $0.int64(1))
        }
    }

    func setFence(_ id: InstanceID, _ fence: Fence, now: Timestamp) throws {
        try execute(
            """
            INSERT INTO fences (instance, generation, epoch, updated_at) VALUES (?, ?, ?, ?)
            ON CONFLICT (instance) DO UPDATE SET generation = excluded.generation, epoch = excluded.epoch,
                updated_at = excluded.updated_at
            """, [.text(id.rawValue), .integer(fence.generation), .integer(fence.epoch), .integer(now.microseconds)])
    }

    func guest(_ id: InstanceID) throws -> GuestRecord? {
        try query("SELECT \(guestColumns) FROM guests WHERE instance = ?", [.text(id.rawValue)], readGuest).first
    }

    func guests() throws -> [GuestRecord] {
        try query("SELECT \(guestColumns) FROM guests ORDER BY instance", [], readGuest)
    }

    func guestCount() throws -> Int { try first("SELECT count(*) FROM guests", []) { $0.int(0) } ?? 0 }

    func put(_ guest: GuestRecord, now: Timestamp) throws {
        try execute(
            """
            INSERT INTO guests
                (instance, specification, vm_state, power_state, launched_at, is_leftover, updated_at)
            VALUES (?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (instance) DO UPDATE SET specification = excluded.specification,
                vm_state = excluded.vm_state, power_state = excluded.power_state,
                launched_at = excluded.launched_at, is_leftover = excluded.is_leftover,
                updated_at = excluded.updated_at
            """,
            [
                .text(guest.id.rawValue), .blob(try encode(guest.specification)), .text(guest.vmState.rawValue),
                .integer(Int64(guest.powerState.rawValue)), SQLValue(guest.launchedAt?.microseconds),
                SQLValue(guest.isLeftover), .integer(now.microseconds),
            ])
    }

    func forgetGuest(_ id: InstanceID) throws {
        try execute("DELETE FROM guests WHERE instance = ?", [.text(id.rawValue)])
        try execute("DELETE FROM claims WHERE instance = ?", [.text(id.rawValue)])
        try forgetSetAside(id)
    }

    func claims() throws -> [Claim] {
        try query("SELECT \(claimColumns) FROM claims ORDER BY instance, migration", [], readClaim)
    }

    /// Those of the instance: where it lives, and of a move.
    func claims(of id: InstanceID) throws -> [Claim] {
        try query("SELECT \(claimColumns) FROM claims WHERE instance = ?", [.text(id.rawValue)], readClaim)
    }

    /// Gives back one claim.
    func release(_ claim: Claim) throws {
        try execute("DELETE FROM claims WHERE id = ?", [.text(claim.id.rawValue)])
    }

    /// Makes the place of a move the one where the instance lives, and gives back the old one where it was here. False
    /// when the move has been dropped.
    func settle(_ move: Claim) throws -> Bool {
        guard move.isMove, try claims(of: move.instance).contains(where: { $0.id == move.id && $0.isMove }) else {
            return false
        }
        try execute(
            "DELETE FROM claims WHERE instance = ? AND migration IS NULL", [.text(move.instance.rawValue)])
        return try execute("UPDATE claims SET migration = NULL WHERE id = ?", [.text(move.id.rawValue)]) == 1
    }

    func insert(_ claim: Claim, now: Timestamp) throws {
        try execute(
            "INSERT INTO claims (\(claimColumns), created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                .text(claim.id.rawValue), .text(claim.instance.rawValue), SQLValue(claim.resources.vcpus),
                SQLValue(claim.resources.memoryMiB), SQLValue(claim.resources.diskGiB),
                SQLValue(try claim.placement.map { try encode($0) }),
                SQLValue(try claim.devices.map { try encode($0) }), SQLValue(claim.purpose.migration?.rawValue),
                SQLValue(try claim.mediatedDevices.map { try encode($0) }), .integer(now.microseconds),
            ])
    }
}

private let claimColumns = "id, instance, vcpus, memory_mib, disk_gib, placement, devices, migration, mediated_devices"

private func readClaim(_ row: borrowing SQLRow) throws -> Claim {
    Claim(
        id: ClaimID(row.text(0)), instance: InstanceID(row.text(1)),
        resources: Resources(vcpus: row.int(2), memoryMiB: row.int(3), diskGiB: row.int(4)),
        placement: try row.blobOrNil(5).map { try decode(TopologyPlacement.self, $0) },
        devices: try row.blobOrNil(6).map { try decode([PCIDevice].self, $0) },
        mediatedDevices: try row.blobOrNil(8).map { try decode([MediatedDevice].self, $0) },
        purpose: row.textOrNil(7).map { .move(MigrationID($0)) } ?? .residence)
}

private let guestColumns = "specification, vm_state, power_state, launched_at, is_leftover"

private func readGuest(_ row: borrowing SQLRow) throws -> GuestRecord {
    GuestRecord(
        specification: try decode(GuestSpecification.self, row.blob(0)),
        vmState: VMState(rawValue: row.text(1)) ?? .error,
        powerState: PowerState(rawValue: row.int(2)) ?? .noState,
        launchedAt: row.int64OrNil(3).map(Timestamp.init(microseconds:)), isLeftover: row.bool(4))
}

func encode(_ value: some Encodable) throws -> [UInt8] { Array(try JSONEncoder().encode(value)) }

func decode<T: Decodable>(_ type: T.Type, _ bytes: [UInt8]) throws -> T {
    try JSONDecoder().decode(type, from: Data(bytes))
}
