internal import ComputeAPI
internal import Configuration
internal import Database
internal import Model
internal import RPC
internal import Telemetry

let program = ServiceProgram(
    name: "apus-api", summary: "The public API: compute, identity and images.", version: "0.1.0",
    options: CommonOptions.all + [Monitoring.listen.erased] + APIService.options)

await program.run { context in
    let configuration = context.configuration
    let database = try await ControlDatabase.open(DatabaseOptions.location(configuration))
    let api = try await APIService(
        configuration: configuration, database: database, hostName: HostName(configuration[CommonOptions.host]),
        now: database.now)
    context.ready("listens on port \(api.port)")
    try await Monitoring(configuration) { await database.complaint() }.run { try await api.run() }
    await database.close()
}
