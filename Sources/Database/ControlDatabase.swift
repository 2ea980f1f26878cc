public import Identity
public import Images
public import Model
public import RPC
internal import SQL
internal import TaskStore
public import Tasks
public import Telemetry

/// The control plane's database: one store an aggregate, over SQLite or PostgreSQL. The only place with SQL of the control
/// plane; several processes may hold the same database open.
public final class ControlDatabase: Sendable {
    let database: any SQLDatabase

    public let instances: InstanceStore
    public let actions: InstanceActionStore
    public let flavors: FlavorStore
    public let flavorAccess: FlavorAccessStore
    public let notifications: NotificationStore
    public let keyPairs: KeyPairStore
    public let quotas: QuotaStore
    public let services: ServiceStore
    public let hosts: HostStore
    public let aggregates: AggregateStore
    public let serverGroups: ServerGroupStore
    public let credentials: CredentialStore
    public let settings: SettingsStore
    public let reports: OperationReportStore
    public let migrations: MigrationStore
    public let evacuations: EvacuationStore
    public let usageAudits: UsageAuditStore
    public let tasks: any TaskStorage
    public let idempotency: any IdempotencyStore
    public let identity: any IdentityStorage
    public let images: any ImageStorage

    /// Opens (and makes, with mode 0600) the file at `path`, or a database in memory where it is `nil`, brings its schema
    /// up to date and puts the default flavors into a new one. Throws `SQLError`: locked by another process, full
    /// disk, damaged file, a schema newer than this program knows.
    public static func open(
        path: String?, now: @Sendable () -> Timestamp = WallClock.now
    ) async throws -> ControlDatabase {
        try await open(path.map { .file($0) } ?? .memory, now: now)
    }

    /// The same for a database of either engine. Throws `SQLError`, also when this program was built without the engine.
    public static func open(
        _ location: DatabaseLocation, now: @Sendable () -> Timestamp = WallClock.now
    ) async throws -> ControlDatabase {
        let database = try await location.open()
        do {
            try await database.migrate(schemas)
            let made = ControlDatabase(database)
            try await made.flavors.seed(now: now())
            return made
        } catch {
            await database.close()
            throw error
        }
    }

    /// Every component, in the order in which they are made.
    static let schemas: [(component: String, migrations: [Migration])] = [
        (Schema.component, Schema.migrations), (QuotaStore.component, QuotaStore.migrations),
        (FlavorAccessStore.component, FlavorAccessStore.migrations),
        (NotificationStore.component, NotificationStore.migrations),
        (AggregateStore.component, AggregateStore.migrations),
        (ServerGroupStore.component, ServerGroupStore.migrations),
        (MigrationStore.component, MigrationStore.migrations),
        (EvacuationStore.component, EvacuationStore.migrations),
        (UsageAuditStore.component, UsageAuditStore.migrations),
        (SQLTaskStorage.component, SQLTaskStorage.migrations),
        (SQLIdempotencyStore.component, SQLIdempotencyStore.migrations),
        (SQLIdentityStorage.component, SQLIdentityStorage.migrations),
        (SQLImageStorage.component, SQLImageStorage.migrations),
    ]

    private init(_ database: any SQLDatabase) {
        self.database = database
        instances = InstanceStore(database: database)
        migrations = MigrationStore(database: database)
        evacuations = EvacuationStore(database: database)
        usageAudits = UsageAuditStore(database: database)
        actions = InstanceActionStore(database: database)
        flavors = FlavorStore(database: database)
        flavorAccess = FlavorAccessStore(database: database)
        notifications = NotificationStore(database: database)
        keyPairs = KeyPairStore(database: database)
        quotas = QuotaStore(database: database)
        services = ServiceStore(database: database)
        hosts = HostStore(database: database)
        aggregates = AggregateStore(database: database)
        serverGroups = ServerGroupStore(database: database)
        credentials = CredentialStore(database: database)
        settings = SettingsStore(database: database)
        reports = OperationReportStore(database: database)
        tasks = SQLTaskStorage(database: database)
        idempotency = SQLIdempotencyStore(database: database)
        identity = SQLIdentityStorage(database: database)
        images = SQLImageStorage(database: database)
    }

    /// The time by a clock that all processes on this database have in common: a server's own, or this machine's. What
    /// compares times across processes goes by it: leases, heartbeats, tickets.
    public var now: Now { { [database] in database.now() } }

    /// Changes whenever another process has written; on a server, soon after.
    public func dataVersion() async throws -> Int64 { try await database.dataVersion() }

    /// Has `wake` called soon after another process has written; false where the engine cannot tell, so that callers must
    /// ask for `dataVersion` again and again. `wake` must return at once.
    public func onChange(_ wake: @escaping @Sendable () -> Void) -> Bool { database.onChange(wake) }

    /// Why the database cannot be used, for a process's health; `nil` when it can be read.
    public func complaint() async -> String? {
        do {
            _ = try await database.read { try $0.hasTable("schema_versions") }
            return nil
        } catch {
            return "the database cannot be read: \(error)"
        }
    }

    /// Ends what is queued and closes the database.
    public func close() async { await database.close() }
}
