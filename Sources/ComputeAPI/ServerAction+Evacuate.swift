internal import Crypto
internal import Database
internal import GuestHardware
internal import HTTP
internal import Images
internal import Model
internal import RPC

/// Off a host that is dead.
extension ServerAction {
    @Sendable static func evacuate(_ action: ServerActionCall) async throws -> HTTPResponse {
        let (server, call, parts) = (action.server, action.call, action.parts)
        let request = try EvacuateRequest(action)
        try requireAdmitted(.evacuate, to: server, call)
        guard let source = server.host else { throw APIError.conflict("Instance \(server.id) is not ready") }
        try requireNoMove(server)
        try await requireKnownDead(source, parts)
        if let host = request.host {
            guard host != source else {
                throw APIError.badRequest("The target host can't be the same one.")
            }
            try await requireComputeHost(host, parts)
        }
        try await action.requireNoVirtualTPM(.evacuate)
        try await accept(request, action, from: source)
        guard request.isAnswered else { return HTTPResponse(200) }
        return jsonAnswer { writer in
            if parts.settings.isPasswordShown { writer.member("adminPass", request.adminPassword) }
        }
    }

    private static func accept(
        _ request: EvacuateRequest, _ action: ServerActionCall, from source: HostName
    ) async throws {
        let (server, call, parts) = (action.server, action.call, action.parts)
        let id = MigrationID(makeUUID())
        let record = MigrationRecord(
            id: id, instance: server, type: .evacuation, status: .accepted, sourceHost: source,
            newFlavor: server.flavor.id, userID: call.caller.userID, now: parts.now())
        let generation = server.fence.generation
        let order = request.order
        _ = try await changeServer(
            server, .evacuate, call, parts, kind: TaskKind.evacuate,
            migrations: [
                .insert(record),
                .evacuation(
                    EvacuationRecord(
                        migration: id, instance: server.id, source: source, generation: generation + 1)),
            ],
            change: { instance in
                // What the records were made of must still be so.
                guard instance.host == source, instance.fence.generation == generation else {
                    throw APIError.conflict("Instance \(instance.id) was changed by another request at the same time.")
                }
                try requireNoMove(instance)
                instance.move = PendingMove(
                    migration: id, type: .evacuation, source: source, formerFlavor: instance.flavor,
                    formerVMState: request.target(instance.vmState))
                (instance.progress, instance.postponedReport) = (0, nil)
            },
            state: { instance in
                var state = MoveTaskState(instance: instance.id, migration: id, requestedHost: request.host)
                state.evacuation = order
                return state
            })
    }

    /// Throws 409 for a server of which two hosts have something: it goes to neither of them, and to no third one.
    private static func requireNoMove(_ server: Instance) throws(APIError) {
        guard let move = server.move else { return }
        throw .conflict(
            move.type == .evacuation
                ? "Instance \(server.id) is being evacuated."
                : "Instance \(server.id) is being moved from \(move.source) to \(move.destination?.rawValue ?? "a host"): "
                    + "decide that first.")
    }

    /// Throws 400, with what to do, unless an operator says that the host is dead. Silence is no evidence: the guests of
    /// a host that is cut off run on.
    private static func requireKnownDead(_ host: HostName, _ parts: ComputeParts) async throws {
        let service = try await parts.database.services.find(host: host, binary: "nova-compute")
        if service?.isKnownDead == true { return }
        let now = parts.now()
        let standing =
            if let service, service.isUp(now: now, downAfter: parts.settings.serviceDownTime) {
                "Compute service of \(host) is still in use."
            } else {
                "Host \(host) does not answer, which is no evidence that its guests are off."
            }
        throw APIError.badRequest(
            "\(standing) Make sure that the host is off, or cut off from its disks and networks; then say so: "
                + "`openstack compute service set --down \(host) nova-compute`, or `apus host confirm-dead \(host) "
                + "--evidence TEXT`, and evacuate again.")
    }
}

/// The body of `evacuate`.
private struct EvacuateRequest: Sendable {
    let host: HostName?
    let adminPassword: String
    let order: EvacuationRequest
    /// Whether the answer tells the password.
    let isAnswered: Bool
    /// Whether the guest stays off on its new host.
    private let staysStopped: Bool

    init(_ action: ServerActionCall) throws(APIError) {
        let call = action.call
        var fields = try action.fields()
        host = try fields.text("host", length: 1...255).map { HostName($0) }
        let password = try fields.text("adminPass")
        let isNamed = host != nil
        var sharesDisks: Bool?
        if !call.isAtLeast(14) {
            guard let flag = try fields.flag("onSharedStorage") else {
                throw .badRequest("Invalid input for evacuate: 'onSharedStorage' is a required property.")
            }
            sharesDisks = flag
            if flag, password != nil {
                throw .badRequest("admin password can't be changed on existing disk")
            }
        }
        var isForced = !call.isAtLeast(29) && isNamed
        if call.isAtLeast(29), !call.isAtLeast(68) {
            isForced = try fields.flag("force") ?? false
            if isForced, !isNamed {
                throw .badRequest("Can't force to a non-provided destination")
            }
        }
        try fields.finish()
        adminPassword = password ?? makePassword()
        order = EvacuationRequest(
            adminPassword: sharesDisks == true ? nil : adminPassword, sharesDisks: sharesDisks, isForced: isForced)
        isAnswered = !call.isAtLeast(14)
        staysStopped = call.isAtLeast(95)
    }

    /// `active` or `stopped`: how a server in this state is to be on its new host.
    func target(_ vmState: VMState) -> VMState {
        switch vmState {
        case .error: .active
        case .stopped: .stopped
        default: staysStopped ? .stopped : .active
        }
    }
}
