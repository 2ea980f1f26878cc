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
            guard let instance = try await database.instances.find(params.instance) else {
                throw Failure(.notFound, "Instance \(params.instance) could not be found.")
            }
            guard let host = instance.host else {
                throw Failure(.conflict, "Instance \(params.instance) is not ready")
            }
            let agent = try await agents.client(for: host)
            return try await agent.call(GetConsoleOutput.self, .init(instance: params.instance, lines: params.lines))
        }
    }
}
