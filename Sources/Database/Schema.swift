internal import SQL

/// The control plane's own tables, in the dialect that SQLite and PostgreSQL share: times are integer microseconds UTC,
/// records are JSON text beside the columns that are searched. A released step is never changed; add another.
enum Schema {
    static let component = "control"

    static let migrations: [Migration] = [
        Migration(
            version: 1,
            sql: """
                CREATE TABLE counters (name TEXT PRIMARY KEY, value BIGINT NOT NULL);
                INSERT INTO counters (name, value) VALUES ('instance_number', 0), ('host_revision', 0), ('service_id', 0), ('host_id', 0);

                CREATE TABLE instances (
                    id TEXT PRIMARY KEY, number BIGINT NOT NULL UNIQUE, project_id TEXT NOT NULL, user_id TEXT NOT NULL,
                    name TEXT NOT NULL, host TEXT, image_id TEXT NOT NULL, flavor_id TEXT NOT NULL,
                    vm_state TEXT NOT NULL, task_state TEXT, generation BIGINT NOT NULL, vcpus BIGINT NOT NULL,
                    memory_mib BIGINT NOT NULL, reservation_id TEXT NOT NULL, created_at BIGINT NOT NULL,
                    updated_at BIGINT NOT NULL, deleted_at BIGINT, record TEXT NOT NULL);
                CREATE INDEX instances_by_project ON instances (project_id, deleted_at, created_at, id);
                CREATE INDEX instances_by_host ON instances (host, deleted_at);
                CREATE INDEX instances_by_time ON instances (created_at, id);

                CREATE TABLE instance_actions (
                    instance_id TEXT NOT NULL, request_id TEXT NOT NULL, action TEXT NOT NULL, user_id TEXT NOT NULL,
                    project_id TEXT NOT NULL, started_at BIGINT NOT NULL, finished_at BIGINT, message TEXT,
                    PRIMARY KEY (instance_id, request_id));
                CREATE TABLE instance_events (
                    instance_id TEXT NOT NULL, request_id TEXT NOT NULL, event TEXT NOT NULL, host TEXT,
                    started_at BIGINT NOT NULL, finished_at BIGINT, result TEXT, details TEXT,
                    PRIMARY KEY (instance_id, request_id, event, started_at));

                CREATE TABLE flavors (
                    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, memory_mib BIGINT NOT NULL, is_public BIGINT NOT NULL,
                    record TEXT NOT NULL, created_at BIGINT NOT NULL);

                CREATE TABLE key_pairs (
                    user_id TEXT NOT NULL, name TEXT NOT NULL, record TEXT NOT NULL, created_at BIGINT NOT NULL,
                    PRIMARY KEY (user_id, name));

                CREATE TABLE services (
                    uuid TEXT PRIMARY KEY, id BIGINT NOT NULL UNIQUE, host TEXT NOT NULL, binary_name TEXT NOT NULL,
                    version BIGINT NOT NULL, report_count BIGINT NOT NULL, last_seen_at BIGINT, is_disabled BIGINT NOT NULL,
                    disabled_reason TEXT, is_forced_down BIGINT NOT NULL, created_at BIGINT NOT NULL,
                    UNIQUE (host, binary_name));

                CREATE TABLE hosts (
                    name TEXT PRIMARY KEY, uuid TEXT NOT NULL UNIQUE, id BIGINT NOT NULL UNIQUE, sequence BIGINT NOT NULL,
                    revision BIGINT NOT NULL, is_deleted BIGINT NOT NULL, report TEXT NOT NULL, created_at BIGINT NOT NULL,
                    updated_at BIGINT NOT NULL);
                CREATE INDEX hosts_by_revision ON hosts (revision);

                CREATE TABLE settings (name TEXT PRIMARY KEY, value BLOB NOT NULL);

                CREATE TABLE enrolled_hosts (
                    name TEXT PRIMARY KEY, url TEXT, enrolled_at BIGINT NOT NULL, joined_at BIGINT, revoked_at BIGINT,
                    certificate_fingerprint TEXT, secret TEXT);
                CREATE TABLE join_tokens (
                    token_hash BLOB PRIMARY KEY, host TEXT NOT NULL, expires_at BIGINT NOT NULL, used_at BIGINT);
                CREATE TABLE credential_hashes (
                    secret_hash BLOB PRIMARY KEY, sender TEXT NOT NULL, receiver TEXT NOT NULL, created_at BIGINT NOT NULL);
                CREATE INDEX credential_hashes_by_sender ON credential_hashes (sender, receiver);

                CREATE TABLE operation_reports (
                    task_id TEXT NOT NULL, host TEXT NOT NULL, report TEXT NOT NULL, received_at BIGINT NOT NULL,
                    PRIMARY KEY (task_id, host));
                """),
        Migration(
            version: 2,
            sql: "CREATE INDEX instances_by_state ON instances (vm_state, deleted_at);"),
        Migration(
            version: 3,
            sql: """
                INSERT INTO counters (name, value) VALUES ('service_revision', 0), ('service_removals', 0);
                ALTER TABLE services ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
                CREATE INDEX services_by_revision ON services (revision);
                """),
        Migration(
            version: 4,
            sql: """
                ALTER TABLE enrolled_hosts ADD COLUMN manifest TEXT;
                ALTER TABLE hosts ADD COLUMN node TEXT;
                """),
        Migration(
            version: 5,
            sql: """
                ALTER TABLE services ADD COLUMN dead_at BIGINT;
                ALTER TABLE services ADD COLUMN dead_evidence TEXT;
                """),
    ]
}
