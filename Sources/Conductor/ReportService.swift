internal import Database
internal import FoundationEssentials
internal import Images
internal import Model
internal import RPC
internal import Synchronization
internal import Tasks
internal import Telemetry

/// Of whom something was said already: it comes again with each heartbeat.
private final class Told: Sendable {
    private static let limit = 10_000
    private let hosts = Mutex<Set<HostName>>([])

    func isFirst(_ host: HostName) -> Bool {
        hosts.withLock { hosts in
            if hosts.count >= Self.limit { hosts = [] }
            return hosts.insert(host).inserted
        }
    }
}

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
    private let tooOld = Told()
    private let silenced = Told()

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
            if params.binary == "nova-compute" { try requireRelease(params.version, of: params.host) }
            if params.binary == "nova-compute", await liveness.mustAnswer(params.host) {
                if silenced.isFirst(params.host) {
                    log.warning(
                        "a host is not heard before it has removed what was evacuated from it", ["host": params.host])
                }
                return .init(now: now(), mustAnswer: true)
            }
            do {
                try await liveness.record(params, at: now())
            } catch let error as StoreError {
                throw error.failure
            }
            return .init(now: now())
        }
        server.register(RegisterAgent.self, allowed: [.host]) { params, call in
            try requireSelf(params.host, call)
            try params.manifest.check()
            try requireRelease(params.manifest.release, of: params.host)
            let text = String(decoding: try JSONEncoder().encode(params.manifest), as: UTF8.self)
            try await database.credentials.setManifest(text, of: params.host)
            return .init(oldest: AgentVersion.oldest, current: AgentVersion.current)
        }
        server.register(ReportHost.self, allowed: [.host]) { params, call in
            try requireSelf(params.report.host, call)
            var report = params.report
            report.strays = report.strays?.bounded
            try report.check()
            do {
                try await database.hosts.record(report, now: now())
            } catch let error as StoreError {
                throw error.failure
            }
            return RPCConfirmation()
        }
        server.register(ReportHostChange.self, allowed: [.host]) { params, call in
            try requireSelf(params.host, call)
            var usage = params.usage
            if let strays = usage?.strays { usage?.strays = strays.bounded }
            do {
                return .init(
                    isTaken: try await database.hosts.apply(
                        usage, to: params.host, uuid: params.uuid, base: params.base, sequence: params.sequence,
                        measuredAt: params.measuredAt, now: now()))
            } catch let error as StoreError {
                throw error.failure
            }
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
        server.register(ReportMigration.self, allowed: [.host]) { params, call in
            try requireSelf(params.host, call)
            try await note(params)
            return RPCConfirmation()
        }
        server.register(ListHostInstances.self, allowed: [.host]) { params, call in
            try requireSelf(params.host, call)
            return .init(instances: try await database.instances.list(on: params.host))
        }
        server.register(GetHostInstance.self, allowed: [.host]) { params, call in
            try requireSelf(params.host, call)
            let found = try await database.instances.find(params.instance)
            guard let instance = found, instance.host == params.host else {
                // One that has moved is still asked for by its former host; the answer is that there is none.
                if found != nil {
                    log.notice(
                        "a host asks for an instance that is not on it",
                        ["peer": call.peer.description, "method": GetHostInstance.name, "instance": params.instance])
                }
                throw Failure(.notFound, "instance \(params.instance) is not on host \(params.host)")
            }
            return .init(instance: instance)
        }
        server.register(DescribeInstances.self, allowed: [.host]) { params, call in
            try requireSelf(params.host, call)
            return .init(instances: try await describe(params.instances, to: params.host))
        }
        server.register(GetImageTicket.self, allowed: [.host]) { params, call in
            try requireSelf(params.host, call)
            return try await ticket(params)
        }
        server.register(GetCacheTicket.self, allowed: [.host]) { params, call in
            try requireSelf(params.host, call)
            return try await cacheTicket(params)
        }
    }

    private func requireSelf(_ host: HostName, _ call: RPCCall, mayBeService: Bool = false) throws {
        switch call.peer {
        case .host(host): return
        case .service where mayBeService: return
        default: throw Failure(.forbidden, "\(call.peer) may not speak for host \(host)")
        }
    }

    /// An agent that is too old gets no work: it is not heard, and therefore down.
    private func requireRelease(_ release: Int, of host: HostName) throws(Failure) {
        guard release < AgentVersion.oldest else { return }
        let text =
            "the agent of host \(host) has version \(release), this conductor works with "
            + "\(AgentVersion.oldest) to \(AgentVersion.current) and later: upgrade the host"
        if tooOld.isFirst(host) { log.warning("an agent is too old", ["what": text]) }
        throw Failure(.unsupportedVersion, text)
    }

    /// A deleted instance is nobody's any more, and whoever still has a guest of it is to know. One that lives is its
    /// host's alone.
    private func describe(
        _ ids: [InstanceID], to host: HostName
    ) async throws -> [DescribeInstances.Standing] {
        guard ids.count <= DescribeInstances.Params.limit else {
            throw Failure(
                .invalidParameters, "at most \(DescribeInstances.Params.limit) instances may be asked for at once")
        }
        var found: [DescribeInstances.Standing] = []
        for id in ids {
            guard let instance = try await database.instances.find(id, includeDeleted: true) else { continue }
            guard instance.deletedAt != nil || instance.host == host else {
                log.notice(
                    "a host asks for an instance that is not on it",
                    ["peer": "\(host)", "method": DescribeInstances.name, "instance": id])
                continue
            }
            found.append(.init(instance: id, fence: instance.fence, deletedAt: instance.deletedAt))
        }
        return found
    }

    private func store(_ report: ReportOperation.Params) async throws {
        guard let row = try await database.tasks.find(report.header.task.whole),
            row.instance == report.header.instance
        else {
            // The task has been trimmed: nobody waits for this any more, and the agent may forget it.
            log.info("a report belongs to no task", ["task": report.header.task, "host": report.host])
            return
        }
        guard try await isAbout(row, report.host) else {
            throw Failure(.forbidden, "task \(row.id) is not about host \(report.host)")
        }
        try await database.reports.record(report, now: now())
        // Looked at again: a task that ends now may have missed the report.
        if let ended = try await database.tasks.find(row.id), ended.status.isFinished || ended.status == .undoing {
            try await InstanceLedger(instances: database.instances).takeLate(report, ended, now: now())
        }
        try await engine.signal(row.id)
    }

    /// Whether a task has had, or may have had, `host` do something. What it was told last the task's row may not show
    /// yet; then the instance's record does.
    private func isAbout(_ row: TaskRow, _ host: HostName) async throws -> Bool {
        switch row.kind {
        case TaskKind.build, TaskKind.unshelve:
            let hosts = try TaskEngine.state(BuildTaskState.self, of: row).candidates
            if hosts?.contains(host) == true { return true }
        case TaskKind.delete: if try TaskEngine.state(DeleteTaskState.self, of: row).host == host { return true }
        case TaskKind.offload: if try TaskEngine.state(OffloadTaskState.self, of: row).host == host { return true }
        case TaskKind.release, TaskKind.cleanup, TaskKind.leave:
            return try TaskEngine.state(CleanupTaskState.self, of: row).host == host
        case TaskKind.move, TaskKind.confirmMove, TaskKind.revertMove, TaskKind.liveMigrate, TaskKind.evacuate:
            let move = try TaskEngine.state(MoveTaskState.self, of: row)
            if move.candidates?.contains(host) == true { return true }
            if try await database.migrations.find(move.migration)?.involves(host) == true { return true }
        default: break
        }
        guard let id = row.instance else { return false }
        return try await database.instances.find(id, includeDeleted: true)?.host == host
    }

    private func store(_ report: ReportInstance.Params) async throws {
        do {
            _ = try await database.instances.update(report.instance, now: now()) { instance in
                // A late report about an instance that is gone changes nothing.
                guard instance.deletedAt == nil else { return }
                guard instance.host == report.host else {
                    throw Failure(.forbidden, "instance \(instance.id) is not on host \(report.host)")
                }
                guard let taskState = report.taskState else { return instance.take(report.observation) }
                guard instance.taskState != nil, instance.taskState != .deleting,
                    instance.fence.generation == report.fence.generation
                else { return }
                instance.taskState = taskState
                if let progress = report.progress { instance.progress = min(max(0, progress), 100) }
            }
        } catch StoreError.notFound {
            log.notice(
                "a host reports an instance that is not known", ["instance": report.instance, "host": report.host])
        }
    }

    /// Writes down how far a migration is: a live one by its source, which sends; another one by its destination, which
    /// fetches. What comes when it is over changes nothing.
    private func note(_ report: ReportMigration.Params) async throws {
        guard let migration = try await database.migrations.find(report.migration),
            migration.instance == report.instance,
            report.host == (migration.type == .liveMigration ? migration.sourceHost : migration.destinationHost)
        else {
            throw Failure(
                .forbidden,
                "migration \(report.migration) of instance \(report.instance) is none that \(report.host) carries")
        }
        do {
            _ = try await database.instances.update(
                report.instance, now: now(),
                migrations: [
                    .note(
                        report.migration, report.progress,
                        isPostCopy: report.isPostCopy && migration.type == .liveMigration)
                ]
            ) { instance in
                guard let move = instance.move, move.migration == report.migration, move.finishedAt == nil,
                    instance.deletedAt == nil
                else { throw Superseded() }
                if let percent = report.progress.percent { instance.progress = percent }
            }
        } catch is Superseded {
            log.debug("a host reports of a migration that is over", ["instance": report.instance, "host": report.host])
        }
    }

    /// What is reported is over.
    private struct Superseded: Error {}

    private func ticket(_ params: GetImageTicket.Params) async throws -> GetImageTicket.Result {
        if params.isUpload == true { return try await uploadTicket(params) }
        guard let instance = try await database.instances.find(params.instance),
            instance.host == params.host || instance.move?.destination == params.host,
            try await uses(instance, params.image)
        else {
            throw Failure(.forbidden, "host \(params.host) has no instance that boots from image \(params.image)")
        }
        return readTicket(params.image, params.host)
    }

    /// Only while the task is under way that wants the image on this host.
    private func cacheTicket(_ params: GetCacheTicket.Params) async throws -> GetCacheTicket.Result {
        guard let row = try await database.tasks.find(params.task), row.kind == TaskKind.cacheImages,
            !row.status.isFinished
        else { throw Failure(.forbidden, "no task \(params.task) under way wants images cached") }
        let state = try TaskEngine.state(CacheImagesTaskState.self, of: row)
        guard state.host == params.host, state.images.contains(where: { $0.id == params.image }) else {
            throw Failure(.forbidden, "task \(row.id) does not want image \(params.image) on host \(params.host)")
        }
        return readTicket(params.image, params.host)
    }

    private func readTicket(_ image: ImageID, _ host: HostName) -> GetImageTicket.Result {
        let expiresAt = now() + ticketLifetime
        return .init(
            url: "\(imageURL)/apus/v1/image-data/\(image)",
            ticket: tickets.issue(host: host, image: image, access: .read, expiresAt: expiresAt),
            expiresAt: expiresAt)
    }

    /// Only for the image that a task under way, of this very generation, has the host fill.
    private func uploadTicket(_ params: GetImageTicket.Params) async throws -> GetImageTicket.Result {
        guard let instance = try await database.instances.find(params.instance), instance.host == params.host,
            try await isFilling(params.image, from: instance)
        else {
            throw Failure(.forbidden, "host \(params.host) has no instance that is being copied into \(params.image)")
        }
        guard let image = try await database.images.find(params.image) else {
            throw Failure(.notFound, "image \(params.image) is gone")
        }
        let expiresAt = now() + ticketLifetime
        var stored: GetImageTicket.StoredBytes?
        if image.status == .active, let size = image.sizeBytes, let sha512 = image.sha512 {
            stored = .init(sizeBytes: size, sha512: sha512)
        }
        return .init(
            url: "\(imageURL)/apus/v1/image-data/\(params.image)",
            ticket: tickets.issue(host: params.host, image: params.image, access: .write, expiresAt: expiresAt),
            expiresAt: expiresAt, stored: stored)
    }

    private func isFilling(_ image: ImageID, from instance: Instance) async throws -> Bool {
        let tasks = try await database.tasks.list(instance: instance.id, unfinishedOnly: true, limit: 100)
        for row in tasks where row.generation == instance.fence.generation && TaskKind.onHost.contains(row.kind) {
            switch try TaskEngine.state(GuestTaskState.self, of: row).command {
            case .snapshot(let order) where order.image == image: return true
            case .shelve(.some(let order)) where order.image == image: return true
            default: continue
            }
        }
        return false
    }

    /// Whether the instance's disk is made from the image, or a task that is under way makes it or a rescue disk so.
    private func uses(_ instance: Instance, _ image: ImageID) async throws -> Bool {
        if instance.imageID == image { return true }
        let rows = try await database.tasks.list(instance: instance.id, unfinishedOnly: true, limit: 100)
        return try rows.contains { row in
            row.generation == instance.fence.generation ? try row.sourceImage() == image : false
        }
    }
}

extension TaskRow {
    /// The image that the task's guest is to boot from.
    fileprivate func sourceImage() throws -> ImageID? {
        switch kind {
        case TaskKind.build, TaskKind.unshelve: return try TaskEngine.state(BuildTaskState.self, of: self).image.id
        case TaskKind.guest, TaskKind.rebuild:
            switch try TaskEngine.state(GuestTaskState.self, of: self).command {
            case .rescue(let material), .rebuild(let material): return material.image.id
            default: return nil
            }
        default: return nil
        }
    }
}

extension ReportInstance.Params {
    fileprivate var observation: InstanceReport {
        InstanceReport(
            fence: fence, sequence: sequence, vmState: vmState, powerState: powerState, interfaces: interfaces,
            notice: notice, observedAt: observedAt)
    }
}

extension ReportOperation.Params {
    /// The instance as the operation left it.
    var observation: InstanceReport {
        InstanceReport(
            fence: header.fence, sequence: sequence, vmState: vmState, powerState: powerState, interfaces: interfaces,
            observedAt: endedAt)
    }
}
