internal import HostTopology
internal import Model
internal import RPC
internal import SQL
internal import SQLite

/// The record of claims and releases. The database writes it itself, in the transaction of the change, so that none can
/// be left out.
enum ClaimEvents {
    static let component = "claim-events"
    /// How many are kept.
    static let limit = 20_000

    static let migrations = [
        Migration(
            version: 1,
            sql: """
                CREATE TABLE claim_events (
                    position INTEGER PRIMARY KEY AUTOINCREMENT,
                    at BIGINT NOT NULL,
                    change TEXT NOT NULL,
                    claim TEXT NOT NULL,
                    instance TEXT NOT NULL,
                    vcpus BIGINT NOT NULL,
                    memory_mib BIGINT NOT NULL,
                    disk_gib BIGINT NOT NULL
                );
                CREATE TRIGGER claim_made AFTER INSERT ON claims BEGIN
                    INSERT INTO claim_events (at, change, claim, instance, vcpus, memory_mib, disk_gib)
                    VALUES (
                        CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER), 'claimed', NEW.id,
                        NEW.instance, NEW.vcpus, NEW.memory_mib, NEW.disk_gib);
                END;
                CREATE TRIGGER claim_gone AFTER DELETE ON claims BEGIN
                    INSERT INTO claim_events (at, change, claim, instance, vcpus, memory_mib, disk_gib)
                    VALUES (
                        CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER), 'released', OLD.id,
                        OLD.instance, OLD.vcpus, OLD.memory_mib, OLD.disk_gib);
                END;
                """),
        // The table of claims was made anew; a move that is settled is an event of its own.
        Migration(
            version: 2,
            sql: """
                DROP TRIGGER IF EXISTS claim_made;
                DROP TRIGGER IF EXISTS claim_gone;
                CREATE TRIGGER claim_made AFTER INSERT ON claims BEGIN
                    INSERT INTO claim_events (at, change, claim, instance, vcpus, memory_mib, disk_gib)
                    VALUES (
                        CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER), 'claimed', NEW.id,
                        NEW.instance, NEW.vcpus, NEW.memory_mib, NEW.disk_gib);
                END;
                CREATE TRIGGER claim_settled AFTER UPDATE OF migration ON claims BEGIN
                    INSERT INTO claim_events (at, change, claim, instance, vcpus, memory_mib, disk_gib)
                    VALUES (
                        CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER), 'settled', NEW.id,
                        NEW.instance, NEW.vcpus, NEW.memory_mib, NEW.disk_gib);
                END;
                CREATE TRIGGER claim_gone AFTER DELETE ON claims BEGIN
                    INSERT INTO claim_events (at, change, claim, instance, vcpus, memory_mib, disk_gib)
                    VALUES (
                        CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER), 'released', OLD.id,
                        OLD.instance, OLD.vcpus, OLD.memory_mib, OLD.disk_gib);
                END;
                """),
    ]
}

extension SQLConnection {
    /// The newest events first.
    func claimEvents(limit: Int) throws -> [DescribeClaims.Event] {
        try query(
            """
            SELECT at, change, claim, instance, vcpus, memory_mib, disk_gib FROM claim_events
            ORDER BY position DESC LIMIT ?
            """, [SQLValue(max(0, limit))]
        ) { row in
            DescribeClaims.Event(
                at: Timestamp(microseconds: row.int64(0)),
                change: DescribeClaims.Event.Change(rawValue: row.text(1)) ?? .released, claim: ClaimID(row.text(2)),
                instance: InstanceID(row.text(3)),
                resources: Resources(vcpus: row.int(4), memoryMiB: row.int(5), diskGiB: row.int(6)))
        }
    }

    /// Forgets all but the newest events.
    func trimClaimEvents(to limit: Int = ClaimEvents.limit) throws {
        try execute(
            "DELETE FROM claim_events WHERE position <= (SELECT max(position) FROM claim_events) - ?",
            [SQLValue(limit)])
    }

    /// When each claim was made.
    func claimTimes() throws -> [ClaimID: Timestamp] {
        let rows = try query("SELECT id, created_at FROM claims", []) { row in
            (ClaimID(row.text(0)), Timestamp(microseconds: row.int64(1)))
        }
        return Dictionary(rows, uniquingKeysWith: { $1 })
    }
}

extension Journal {
    /// Who holds what, and the newest events.
    func describeClaims(_ ledger: ResourceLedger, events: Int) async throws -> DescribeClaims.Result {
        let (claims, times, events) = try await database.read { connection in
            (try connection.claims(), try connection.claimTimes(), try connection.claimEvents(limit: events))
        }
        return DescribeClaims.Result(
            total: ledger.total, reserved: ledger.reserved, used: ledger.used, limit: ledger.limit,
            holdings: claims.map { claim in
                DescribeClaims.Holding(
                    claim: claim.id, instance: claim.instance, resources: claim.resources,
                    since: times[claim.id] ?? Timestamp(microseconds: 0),
                    remark: claim.remark)
            }, events: events)
    }
}

extension Claim {
    /// What it holds beside amounts, for a person.
    fileprivate var remark: String? {
        let devices = devices.map { $0.map(\.address).joined(separator: " ") }
        let shares = mediatedDevices.map { $0.map { "\($0.type) of \($0.parentAddress)" }.joined(separator: ", ") }
        let move = purpose.migration.map { "migration \($0)" }
        let parts = [move, placement?.summary, devices, shares].compactMap(\.self).filter { !$0.isEmpty }
        return parts.isEmpty ? nil : parts.joined(separator: "; ")
    }
}
