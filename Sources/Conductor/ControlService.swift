internal import Database
internal import Model
internal import RPC
internal import Tasks
internal import Telemetry

/// Answers the API.
struct ControlService: Sendable {
    let database: ControlDatabase
    let engine: TaskEngine
    let agents: AgentDirectory
    let now: Now

    func register(on server: RPCServer) {
        server.register(WakeConductor.self, allowed: [.api]) { _, _ in
            engine.wake()
            return RPCConfirmation()
        }
        server.register(ForgetHost.self, allowed: [.api]) { [weak server] params, _ in
            // Without this a revoked credential would be believed for as long as verifications are remembered.
            server?.forgetVerified()
            await agents.forget(params.host)
            return RPCConfirmation()
        }
        server.register(FetchConsoleOutput.self, allowed: [.api]) { params, _ in
            try await agents.call(
                GetConsoleOutput.self, .init(instance: params.instance, lines: params.lines),
                on: try await host(of: params.instance))
        }
        server.register(FetchClaims.self, allowed: [.api]) { params, _ in
            try await agents.call(DescribeClaims.self, params, on: params.host)
        }
        server.register(FetchDiagnostics.self, allowed: [.api]) { params, _ in
            try await agents.call(GetDiagnostics.self, params, on: try await host(of: params.instance))
        }
        server.register(FetchTopology.self, allowed: [.api]) { params, _ in
            try await agents.call(GetTopology.self, params, on: try await host(of: params.instance))
        }
        server.register(FetchGuestAgent.self, allowed: [.api]) { params, _ in
            try await agents.call(PingGuestAgent.self, params, on: try await host(of: params.instance))
        }
        server.register(TriggerCrashDump.self, allowed: [.api]) { params, _ in
            try await agents.call(InjectNMI.self, params, on: try await host(of: params.instance))
        }
        server.register(ForceLiveMigration.self, allowed: [.api]) { params, _ in try await force(params) }
    }

    /// Asks the host that the guest comes from. What the host has said of the guest's memory by then is noted.
    private func force(_ params: ForceLiveMigration.Params) async throws -> ForceLiveMigration.Result {
        guard let instance = try await database.instances.find(params.instance), let move = instance.move,
            move.migration == params.migration, move.type == .liveMigration
        else { throw Failure(.conflict, "migration \(params.migration) of instance \(params.instance) is over") }
        let answer = try await agents.call(ForceMigration.self, params, on: move.source)
        if answer.isPostCopy {
            _ = try await database.instances.update(
                instance.id, now: now(), migrations: [.note(move.migration, nil, isPostCopy: true)]
            ) { _ in }
        }
        return answer
    }

    /// The host that the instance is on.
    private func host(of id: InstanceID) async throws -> HostName {
        guard let instance = try await database.instances.find(id) else {
            throw Failure(.notFound, "Instance \(id) could not be found.")
        }
        guard let host = instance.host else { throw Failure(.conflict, "Instance \(id) is not ready") }
        return host
    }
}
