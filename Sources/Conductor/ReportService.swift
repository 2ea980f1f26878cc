internal import Database
internal import Images
internal import Model
internal import RPC
internal import Tasks
internal import Telemetry

/// Answers agents. A host is believed about itself and about the instances that the database places on it, and about
/// nothing else.
struct ReportService: Sendable {
    let database: ControlDatabase
    let engine: TaskEngine
    let liveness: Liveness
    let tickets: ImageTicketAuthority
    let imageURL: String
    let ticketLifetime: Duration
    let now: Now
    private let log = Logger("conductor")

    init(
        database: ControlDatabase, engine: TaskEngine, liveness: Liveness, tickets: ImageTicketAuthority,
        imageURL: String, ticketLifetime: Duration, now: @escaping Now
    ) {
        (self.database, self.engine, self.liveness) = (database, engine, liveness)
        (self.tickets, self.imageURL, self.ticketLifetime, self.now) = (tickets, imageURL, ticketLifetime, now)
    }

    func register(on server: RPCServer) {
        server.register(Heartbeat.self, allowed: [.host, .scheduler]) { params, call in
            try requireSelf(params.host, call, mayBeService: true)
            await liveness.record(params, at: now())
            return .init(now: now())
        }
        server.register(ReportHost.self, allowed: [.host]) { params, call in
            try requireSelf(params.report.host, call)
            try await database.hosts.record(params.report, now: now())
            return RPCConfirmation()
        }
        server.register(ReportInstance.self, allowed: [.host]) { params, call in
            try requireSelf(params.host, call)
            try await store(params)
            return RPCConfirmation()
        }
        server.register(ReportOperation.self, allowed: [.host]) { params, call in
            try requireSelf(params.host, call)
            try await store(params)
            return RPCConfirmation()
        }
        server.register(ListHostInstances.self, allowed: [.host]) { params, call in
            try requireSelf(params.host, call)
            return .init(instances: try await database.instances.list(on: params.host))
        }
        server.register(GetImageTicket.self, allowed: [.host]) { params, call in
            try requireSelf(params.host, call)
            return try await ticket(params)
        }
    }

    private func requireSelf(_ host: HostName, _ call: RPCCall, mayBeService: Bool = false) throws {
        switch call.peer {
        case .host(host): return
        case .service where mayBeService: return
        default: throw Failure(.forbidden, "\(call.peer) may not speak for host \(host)")
        }
    }

    private func store(_ report: ReportOperation.Params) async throws {
        guard let row = try await database.tasks.find(report.header.task),
            row.instance == report.header.instance
        else {
            // The task has been trimmed: nobody waits for this any more, and the agent may forget it.
            log.info("a report belongs to no task", ["task": report.header.task, "host": report.host])
            return
        }
        try await database.reports.record(report, now: now())
        try await engine.signal(row.id)
    }

    private func store(_ report: ReportInstance.Params) async throws {
        do {
            _ = try await database.instances.update(report.instance, now: now()) { instance in
                // A late report, or one of a host that no longer has the instance, changes nothing.
                guard instance.host == report.host, instance.deletedAt == nil,
                    report.fence.generation == instance.fence.generation
                else { return }
                if instance.taskState == nil {
                    if let vmState = report.vmState { instance.vmState = vmState }
                    instance.powerState = report.powerState
                } else if let taskState = report.taskState, instance.taskState != .deleting {
                    instance.taskState = taskState
                }
                if let interfaces = report.interfaces { instance.interfaces = interfaces }
            }
        } catch StoreError.notFound {
            log.notice(
                "a host reports an instance that is not known", ["instance": report.instance, "host": report.host])
        }
    }

    private func ticket(_ params: GetImageTicket.Params) async throws -> GetImageTicket.Result {
        guard let instance = try await database.instances.find(params.instance), instance.host == params.host,
            instance.imageID == params.image
        else {
            throw Failure(.forbidden, "host \(params.host) has no instance that boots from image \(params.image)")
        }
        let expiresAt = now() + ticketLifetime
        return .init(
            url: "\(imageURL)/apus/v1/image-data/\(params.image)",
            ticket: tickets.issue(host: params.host, image: params.image, access: .read, expiresAt: expiresAt),
            expiresAt: expiresAt)
    }
}
