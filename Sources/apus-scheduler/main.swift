import Configuration
import Database
import Model
import RPC
import SchedulerService
import Telemetry

let program = ServiceProgram(
    name: "apus-scheduler", summary: "picks hosts for instances", version: "0.1.0",
    options: CommonOptions.all + [Monitoring.listen.erased] + DatabaseOptions.all + RPCOptions.all
        + SchedulerOptions.all)

await program.run { context in
    let configuration = context.configuration
    let database = try await ControlDatabase.open(DatabaseOptions.location(configuration))
    let scheduler = try await SchedulerService(
        configuration: configuration, database: database, hostName: HostName(configuration[CommonOptions.host]),
        now: database.now)
    context.ready("listening on port \(scheduler.port)")
    try await Monitoring(configuration) { await database.complaint() }.run { try await scheduler.run() }
    await database.close()
}
