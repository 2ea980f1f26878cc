public import Database
public import Images
public import Model
public import Telemetry

/// What the compute API works with.
public struct ComputeParts: Sendable {
    let database: ControlDatabase
    let images: any ImageStorage
    let conductor: ConductorLink
    let settings: APISettings
    let authenticate: APIAuthenticator
    /// For making keys, which takes tenths of a second.
    let executor: BlockingExecutor
    let now: @Sendable () -> Timestamp
    let written = WrittenServers()

    public init(
        database: ControlDatabase, images: any ImageStorage, conductor: ConductorLink, settings: APISettings,
        authenticate: @escaping APIAuthenticator, executor: BlockingExecutor,
        now: @escaping @Sendable () -> Timestamp
    ) {
        (self.database, self.images, self.conductor, self.settings) = (database, images, conductor, settings)
        (self.authenticate, self.executor, self.now) = (authenticate, executor, now)
    }
}
