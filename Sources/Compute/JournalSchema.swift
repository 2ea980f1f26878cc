internal import SQL
internal import SQLite

/// The journal's own tables. Those of tasks and idempotency are TaskStore's.
enum JournalSchema {
    static let component = "agent"

    static let migrations = [
        Migration(
            version: 1,
            sql: """
                CREATE TABLE settings (
                    key TEXT PRIMARY KEY,
                    value TEXT NOT NULL
                );
                -- Outlives the guest, so that a late build cannot bring back what was deleted.
                CREATE TABLE fences (
                    instance TEXT PRIMARY KEY,
                    generation BIGINT NOT NULL,
                    epoch BIGINT NOT NULL,
                    updated_at BIGINT NOT NULL
                );
                CREATE TABLE guests (
                    instance TEXT PRIMARY KEY,
                    specification BLOB NOT NULL,
                    vm_state TEXT NOT NULL,
                    power_state BIGINT NOT NULL,
                    launched_at BIGINT,
                    is_leftover BIGINT NOT NULL DEFAULT 0,
                    updated_at BIGINT NOT NULL
                );
                CREATE TABLE claims (
                    id TEXT PRIMARY KEY,
                    instance TEXT NOT NULL UNIQUE,
                    vcpus BIGINT NOT NULL,
                    memory_mib BIGINT NOT NULL,
                    disk_gib BIGINT NOT NULL,
                    created_at BIGINT NOT NULL
                );
                CREATE TABLE operations (
                    position INTEGER PRIMARY KEY AUTOINCREMENT,
                    id TEXT NOT NULL UNIQUE,
                    kind TEXT NOT NULL,
                    instance TEXT NOT NULL,
                    task TEXT,
                    generation BIGINT NOT NULL,
                    epoch BIGINT NOT NULL,
                    request_id TEXT NOT NULL,
                    accepted_at BIGINT NOT NULL,
                    ended_at BIGINT,
                    outcome BLOB
                );
                CREATE INDEX operations_lane ON operations (instance, ended_at, position);
                CREATE INDEX operations_ended ON operations (ended_at);
                CREATE TABLE outbox (
                    position INTEGER PRIMARY KEY AUTOINCREMENT,
                    instance TEXT NOT NULL,
                    kind TEXT NOT NULL,
                    idempotency_key TEXT NOT NULL,
                    request_id TEXT NOT NULL,
                    payload BLOB NOT NULL,
                    created_at BIGINT NOT NULL
                );
                CREATE INDEX outbox_lane ON outbox (instance, position);
                """),
        // Where a claim is on the host's cells.
        Migration(version: 2, sql: "ALTER TABLE claims ADD COLUMN placement BLOB;"),
        // The devices that a claim holds.
        Migration(version: 3, sql: "ALTER TABLE claims ADD COLUMN devices BLOB;"),
        // A move's claim stands beside that of the residence. The triggers of claim_events go with the old table.
        Migration(
            version: 4,
            sql: """
                CREATE TABLE claims_of_both (
                    id TEXT PRIMARY KEY,
                    instance TEXT NOT NULL,
                    vcpus BIGINT NOT NULL,
                    memory_mib BIGINT NOT NULL,
                    disk_gib BIGINT NOT NULL,
                    created_at BIGINT NOT NULL,
                    placement BLOB,
                    devices BLOB,
                    migration TEXT
                );
                INSERT INTO claims_of_both
                SELECT id, instance, vcpus, memory_mib, disk_gib, created_at, placement, devices, NULL FROM claims;
                DROP TABLE claims;
                ALTER TABLE claims_of_both RENAME TO claims;
                CREATE UNIQUE INDEX claims_holder ON claims (instance, (migration IS NULL));
                """),
        // The shares of devices that a claim holds.
        Migration(version: 5, sql: "ALTER TABLE claims ADD COLUMN mediated_devices BLOB;"),
        // Guests that have been shut down for a move, and may come back.
        Migration(
            version: 6,
            sql: """
                CREATE TABLE set_aside (
                    instance TEXT PRIMARY KEY,
                    migration TEXT NOT NULL,
                    specification BLOB NOT NULL,
                    vm_state TEXT NOT NULL,
                    launched_at BIGINT,
                    updated_at BIGINT NOT NULL
                );
                """),
    ]
}
