internal import Database
internal import Model
internal import RPC
internal import Tasks

/// Answers the API.
struct ControlService: Sendable {
    let database: ControlDatabase
    let engine: TaskEngine
    let agents: AgentDirectory

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
            try await agent(of: params.instance).call(
                GetConsoleOutput.self, .init(instance: params.instance, lines: params.lines))
        }
        server.register(FetchClaims.self, allowed: [.api]) { params, _ in
            try await agents.client(for: params.host).call(DescribeClaims.self, params)
        }
        server.register(FetchDiagnostics.self, allowed: [.api]) { params, _ in
            try await agent(of: params.instance).call(GetDiagnostics.self, params)
        }
        server.register(FetchTopology.self, allowed: [.api]) { params, _ in
            try await agent(of: params.instance).call(GetTopology.self, params)
        }
        server.register(FetchGuestAgent.self, allowed: [.api]) { params, _ in
            try await agent(of: params.instance).call(PingGuestAgent.self, params)
        }
        server.register(TriggerCrashDump.self, allowed: [.api]) { params, _ in
            try await agent(of: params.instance).call(InjectNMI.self, params)
        }
    }

    /// The client for the host that the instance is on.
    private func agent(of id: InstanceID) async throws -> RPCClient {
        guard let instance = try await database.instances.find(id) else {
            throw Failure(.notFound, "Instance \(id) could not be found.")
        }
        guard let host = instance.host else { throw Failure(.conflict, "Instance \(id) is not ready") }
        return try await agents.client(for: host)
    }
}
