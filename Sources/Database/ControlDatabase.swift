public import Identity
public import Images
public import Model
public import RPC
internal import SQLite
internal import TaskStore
public import Tasks
public import Telemetry

/// The control plane's database: one store an aggregate, over one SQLite file. The only place with SQL of the control
/// plane; several processes may hold the same file open.
public final class ControlDatabase: Sendable {
    let database: SQLiteDatabase

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
    public let tasks: any TaskStorage
    public let idempotency: any IdempotencyStore
    public let identity: any IdentityStorage
    public let images: any ImageStorage

    /// Opens (and makes, with mode 0600) the file at `path`, or a database in memory where it is `nil`, brings its schema
    /// up to date and puts the default flavors into a new one. Throws `SQLiteError`: locked by another process, full
    /// disk, damaged file, a schema newer than this program knows.
    public static func open(
        path: String?, now: @Sendable () -> Timestamp = WallClock.now
    ) async throws -> ControlDatabase {
        let database = try await SQLiteDatabase.open(path.map { .file($0) } ?? .memory)
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
        (SQLiteTaskStorage.component, SQLiteTaskStorage.migrations),
        (SQLiteIdempotencyStore.component, SQLiteIdempotencyStore.migrations),
        (SQLiteIdentityStorage.component, SQLiteIdentityStorage.migrations),
        (SQLiteImageStorage.component, SQLiteImageStorage.migrations),
    ]

    private init(_ database: SQLiteDatabase) {
        self.database = database
        instances = InstanceStore(database: database)
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
        tasks = SQLiteTaskStorage(database: database)
        idempotency = SQLiteIdempotencyStore(database: database)
        identity = SQLiteIdentityStorage(database: database)
        images = SQLiteImageStorage(database: database)
    }

    /// Changes whenever another process has written.
    public func dataVersion() async throws -> Int64 { try await database.dataVersion() }

    /// Ends what is queued and closes the file.
    public func close() async { await database.close() }
}
