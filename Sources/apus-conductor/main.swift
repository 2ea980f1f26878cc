import Conductor
import Configuration
import Database
import Model
import RPC
import Telemetry

let program = ServiceProgram(
    name: "apus-conductor", summary: "carries durable tasks through and answers agents", version: "0.1.0",
    options: CommonOptions.all + [Monitoring.listen.erased] + DatabaseOptions.all + RPCOptions.all
        + ConductorOptions.all)

await program.run { context in
    let configuration = context.configuration
    let database = try await ControlDatabase.open(DatabaseOptions.location(configuration))
    let conductor = try await ConductorService(
        configuration: configuration, database: database, hostName: HostName(configuration[CommonOptions.host]),
        now: database.now)
    context.ready("listening on port \(conductor.port)")
    try await Monitoring(configuration) { await database.complaint() }.run { try await conductor.run() }
    await database.close()
}
