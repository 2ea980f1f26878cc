internal import Configuration
internal import HTTP
internal import Model
internal import RPC
internal import SQL
internal import SQLite
internal import TaskStore
internal import Telemetry

extension AgentCore {
    /// Answers conductors until it is cancelled, then finishes what it has begun to answer.
    func serve(_ serving: @Sendable (UInt16) -> Void) async throws {
        let rpc = RPCServer(
            name: "apus-compute", verifier: ConductorVerifier(secretHash: identity.conductorSecretHash),
            idempotency: SQLIdempotencyStore(database: journal.database), now: journal.now)
        register(on: rpc)
        var router = Router()
        rpc.mount(on: &router)
        MoveRoutes(host: identity.host, conductorSecretHash: identity.conductorSecretHash, driver: driver)
            .mount(on: &router)
        let journal = journal
        LiveRoutes(
            host: identity.host, conductorSecretHash: identity.conductorSecretHash, driver: driver, gates: gates,
            guest: { try await journal.guest($0) }
        ).mount(on: &router)
        let tls = identity.serverTLS
        guard tls != nil || listen.isLoopback || configuration[RPCOptions.allowPlaintext] else {
            throw Failure(
                .forbidden,
                "[compute] listen = \(listen) is beyond this machine, and this host has no certificate: join over https, "
                    + "or set [apus] allow_plaintext")
        }
        var server = ServerConfiguration()
        server.address = listen.address
        server.port = listen.port
        server.tls = tls
        server.name = "compute"
        let registration = Registration(host: identity.host, client: client)
        let manifest = rpc.manifest
        async let registered: Void = registration.run(manifest)
        try await run(HTTPServer(server, router: router)) { port in
            Logger("agent").notice("serving", ["address": listen.address, "port": Int(port), "tls": tls != nil])
            serving(port)
        }
        await registered
    }

    /// `/metrics` and `/healthz`, until it is cancelled.
    func serveMetrics() async throws {
        let (journal, watcher) = (journal, watcher)
        let monitoring = try Monitoring(configuration) {
            try await journal.ping()
            return await watcher.isConnected ? nil : "the hypervisor is out of reach"
        }
        try await monitoring.run { await untilCancelled() }
    }

    private func run(_ server: HTTPServer, _ serving: (UInt16) -> Void) async throws {
        try server.start()
        serving(server.port)
        await untilCancelled()
        gates.closeAll()
        await server.stop(grace: .seconds(5))
    }

    private func register(on rpc: RPCServer) {
        let (dispatcher, driver, journal, gates) = (dispatcher, driver, journal, gates)
        rpc.register(BuildInstance.self, allowed: [.conductor]) { params, call in
            try await dispatcher.build(params, call.requestID)
            return RPCConfirmation()
        }
        rpc.register(DeleteInstance.self, allowed: [.conductor]) { params, call in
            try await dispatcher.delete(params, call.requestID)
            return RPCConfirmation()
        }
        rpc.register(OperateGuest.self, allowed: [.conductor]) { params, call in
            try await dispatcher.operate(params, call.requestID)
            return RPCConfirmation()
        }
        rpc.register(MoveGuest.self, allowed: [.conductor]) { params, call in
            try await dispatcher.move(params, call.requestID)
            return RPCConfirmation()
        }
        rpc.register(ForceMigration.self, allowed: [.conductor]) { params, _ in
            guard gates.isOffered(params.instance, for: params.migration),
                try await journal.database.read({ try $0.lane(params.instance) }).contains(where: { $0.kind == .send })
            else {
                throw Failure(.conflict, "migration \(params.migration) does not send a guest from this host")
            }
            return ForceMigration.Result(isPostCopy: try await driver.forceGuest(params.instance))
        }
        rpc.register(TakeInGuest.self, allowed: [.conductor]) { params, call in
            try await dispatcher.takeIn(params, call.requestID)
            return RPCConfirmation()
        }
        rpc.register(CancelOperation.self, allowed: [.conductor]) { params, _ in
            try await dispatcher.cancel(params.header)
            return RPCConfirmation()
        }
        let (tracker, host, prefetch) = (tracker, identity.host, prefetch)
        rpc.register(CacheImage.self, allowed: [.conductor]) { params, _ in
            guard params.host == host else { throw Failure(.notFound, "this is host \(host), not \(params.host)") }
            return CacheImage.Result(isCached: try await prefetch.ask(params))
        }
        rpc.register(DescribeClaims.self, allowed: [.conductor]) { params, _ in
            guard params.host == host else { throw Failure(.notFound, "this is host \(host), not \(params.host)") }
            guard (0...DescribeClaims.Params.eventLimit).contains(params.events) else {
                throw Failure(.invalidParameters, "events: 0 to \(DescribeClaims.Params.eventLimit)")
            }
            return try await journal.describeClaims(tracker.snapshot, events: params.events)
        }
        rpc.register(GetDiagnostics.self, allowed: [.conductor]) { params, _ in
            guard try await journal.guest(params.instance) != nil else {
                throw Failure(.notFound, "instance \(params.instance) is not on this host")
            }
            return try await driver.diagnostics(params.instance)
        }
        rpc.register(GetTopology.self, allowed: [.conductor]) { params, _ in
            guard let guest = try await journal.guest(params.instance) else {
                throw Failure(.notFound, "instance \(params.instance) is not on this host")
            }
            return GuestTopology(guest.specification.placement)
        }
        rpc.register(PingGuestAgent.self, allowed: [.conductor]) { params, _ in
            guard try await journal.guest(params.instance) != nil else {
                throw Failure(.notFound, "instance \(params.instance) is not on this host")
            }
            let start = ContinuousClock.now
            let isAnswering = try await driver.pingGuestAgent(params.instance)
            return PingGuestAgent.Result(
                isAnswering: isAnswering, milliseconds: (ContinuousClock.now - start).inSeconds * 1_000)
        }
        rpc.register(InjectNMI.self, allowed: [.conductor]) { params, _ in
            guard try await journal.guest(params.instance) != nil else {
                throw Failure(.notFound, "instance \(params.instance) is not on this host")
            }
            try await driver.injectNMI(params.instance)
            return RPCConfirmation()
        }
        rpc.register(GetConsoleOutput.self, allowed: [.conductor]) { params, _ in
            guard try await journal.guest(params.instance) != nil else {
                throw Failure(.notFound, "instance \(params.instance) is not on this host")
            }
            let bytes = try await driver.consoleLog(params.instance, limit: ConsoleText.limit)
            return GetConsoleOutput.Result(output: ConsoleText.clean(bytes, lines: params.lines))
        }
    }
}

/// Ends with this task's cancellation, and with nothing else.
private func untilCancelled() async {
    let (never, end) = AsyncStream.makeStream(of: Void.self)
    for await _ in never {}
    withExtendedLifetime(end) {}
}
