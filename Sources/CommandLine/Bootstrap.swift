internal import ComputeAPI
internal import Configuration
internal import Database
internal import Identity
internal import SQL
internal import Telemetry

/// The administrator of a new installation, and the login in openrc and clouds.yaml.
struct Bootstrap: Sendable {
    let settings: UpSettings

    /// Makes what is not there yet, and writes the login. Whether it could be written: where another has made the
    /// administrator, nobody here knows the password.
    ///
    /// The login is written before the user is made, so that no end of this process leaves a user whose password nobody
    /// knows.
    func run(_ identity: IdentityService, _ database: ControlDatabase) async throws -> Bool {
        let admin = try await identity.storage.findUser(
            name: AdminCredentials.username, domainID: IdentityService.defaultDomainID)
        let saved = try AdminCredentials.savedPassword(in: settings.statePath)
        guard let password = saved ?? (admin == nil ? AdminCredentials.makePassword() : nil) else { return false }
        let advertised = settings.configuration[APIOptions.advertisedURL]
        let url = advertised.isEmpty ? settings.url(of: "api") : advertised
        var caFile: String?
        if url.hasPrefix("https:") {
            let path = "\(settings.statePath)/ca.pem"
            let authority = ControlPlaneAuthority(settings: database.settings, now: database.now)
            try writePrivateFile(path, try await authority.establish())
            caFile = path
        }
        try AdminCredentials(
            password: password, authURL: url + "/identity/v3", region: settings.configuration[IdentityOptions.region],
            caFile: caFile
        ).write(to: settings.statePath)
        _ = try await identity.bootstrap(adminPassword: password)
        return true
    }
}

extension Bootstrap {
    /// The same without an API that has an identity service already.
    func make(_ database: ControlDatabase) async throws -> Bool {
        let identity = IdentityService(
            storage: database.identity, tokenLifetime: settings.configuration[IdentityOptions.tokenExpiration],
            now: database.now)
        return try await run(identity, database)
    }
}

extension Command {
    /// `apus bootstrap`
    static let bootstrap = Command(
        name: "bootstrap", summary: "Make a new installation's administrator, before its daemons start.",
        details: """
            For control processes that run apart: give it the configuration of apus-api. It writes the login to openrc \
            and clouds.yaml in the state folder. `apus up` does the same by itself.
            """,
        options: UpSettings.options
    ) { invocation, terminal in
        let settings = try UpSettings(invocation)
        let folder = settings.statePath
        try makeFolder(folder, mode: 0o711)
        let isWritten: Bool
        do {
            let database = try await openDatabase(settings)
            do {
                isWritten = try await Bootstrap(settings: settings).make(database)
            } catch {
                await database.close()
                throw error
            }
            await database.close()
        } catch {
            throw CommandError.failure(UpFailure.explain(error, settings: settings))
        }
        guard isWritten else {
            throw CommandError.failure(
                "There is an administrator already, whose password is not in \(folder): nothing was changed.")
        }
        terminal.print("Load the login with: . \(folder)/openrc")
        return 0
    }
}

/// Opens the control plane's database; a failure says which file it was.
func openDatabase(_ settings: UpSettings) async throws -> ControlDatabase {
    do {
        return try await ControlDatabase.open(settings.database)
    } catch let error as SQLError {
        throw UpFailure.DatabaseFailure(error: error)
    }
}
