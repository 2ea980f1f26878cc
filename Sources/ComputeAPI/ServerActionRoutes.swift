internal import Database
internal import HTTP
internal import Images
internal import Model
internal import RPC

/// `POST /servers/{id}/action`: the body's one member says what to do.
extension ComputeRoutes {
    mutating func addServerActions() {
        let parts = parts
        addServer(.post, "/action", rule: nil) { call, server in
            let body = try call.body()
            let members = body.members ?? [:]
            guard members.count == 1, let (name, argument) = members.first else {
                throw APIError.badRequest(
                    members.isEmpty
                        ? "There is no such action: the body must be an object with the action as its member."
                        : "There is no such action: \(members.keys.sorted().joined(separator: ", "))")
            }
            guard let action = ServerAction.all[name] else {
                throw APIError.badRequest("There is no such action: \(name)")
            }
            guard action.versions.contains(call.version.minor) else {
                throw APIError.notFound("The resource could not be found.")
            }
            try call.require(action.rule)
            switch action.content {
            case .served(let run):
                return try await run(
                    ServerActionCall(name: name, argument: argument, server: server, call: call, parts: parts))
            case .notBuilt: throw APIError.notAvailable("The action '\(name)'")
            }
        }
    }
}

/// One action: its rule, the versions at which there is such an action, and what it does.
struct ServerAction: Sendable {
    typealias Run = @Sendable (ServerActionCall) async throws -> HTTPResponse

    enum Content: Sendable {
        case served(Run)
        /// Nova has it; Apus will.
        case notBuilt
    }

    let rule: String
    let versions: ClosedRange<Int>
    let content: Content

    /// An action that Apus does not have yet.
    private init(absent rule: String, at versions: ClosedRange<Int> = 1...Int.max) {
        (self.rule, self.versions, content) = (rule, versions, .notBuilt)
    }

    private init(_ rule: String, at versions: ClosedRange<Int> = 1...Int.max, _ run: @escaping Run) {
        (self.rule, self.versions, content) = (rule, versions, .served(run))
    }

    /// An action without argument that is one command to the guest's host.
    private init(
        _ rule: String, _ request: InstanceRequest, _ command: GuestCommand,
        change: @escaping @Sendable (inout Instance) -> Void = { _ in }
    ) {
        self.init(rule) { action in
            try action.requireNoArgument()
            return try await action.command(request, command, change: change)
        }
    }

    static let all: [String: ServerAction] = [
        "os-start": ServerAction("servers:start", .start, .start),
        "os-stop": ServerAction("servers:stop", .stop, .stop),
        "reboot": ServerAction("servers:reboot", reboot),
        "os-getConsoleOutput": ServerAction("os-console-output", consoleOutput),
        "pause": ServerAction("os-pause-server:pause", .pause, .pause),
        "unpause": ServerAction("os-pause-server:unpause", .unpause, .unpause),
        "suspend": ServerAction("os-suspend-server:suspend", .suspend, .suspend) { $0.rememberVMState() },
        "resume": ServerAction("os-suspend-server:resume", .resume, .resume),
        "lock": ServerAction("os-lock-server:lock", lock),
        "unlock": ServerAction("os-lock-server:unlock", unlock),
        "resize": ServerAction("servers:resize", resize),
        "confirmResize": ServerAction("servers:confirm_resize", confirmResize),
        "revertResize": ServerAction("servers:revert_resize", revertResize),
        "rebuild": ServerAction("servers:rebuild", rebuild),
        "rescue": ServerAction("os-rescue", rescue),
        "unrescue": ServerAction("os-unrescue", .unrescue, .unrescue),
        "shelve": ServerAction("os-shelve:shelve", shelve),
        "shelveOffload": ServerAction("os-shelve:shelve_offload", shelveOffload),
        "unshelve": ServerAction("os-shelve:unshelve", unshelve),
        "createImage": ServerAction("servers:create_image", createImage),
        "createBackup": ServerAction("os-create-backup", createBackup),
        "changePassword": ServerAction("os-admin-password", changePassword),
        "addSecurityGroup": ServerAction(absent: "os-security-groups:add"),
        "removeSecurityGroup": ServerAction(absent: "os-security-groups:remove"),
        "addFixedIp": ServerAction(absent: "os-multinic:add", at: 1...43),
        "removeFixedIp": ServerAction(absent: "os-multinic:remove", at: 1...43),
        "addFloatingIp": ServerAction(absent: "os-floating-ips:add", at: 1...43),
        "removeFloatingIp": ServerAction(absent: "os-floating-ips:remove", at: 1...43),
        "os-resetState": ServerAction("os-admin-actions:reset_state", resetState),
        "injectNetworkInfo": ServerAction(absent: "os-admin-actions:inject_network_info"),
        "resetNetwork": ServerAction(absent: "os-admin-actions:reset_network"),
        "forceDelete": ServerAction("os-deferred-delete:force", forceDelete),
        "restore": ServerAction("os-deferred-delete:restore", restore),
        "evacuate": ServerAction("os-evacuate", evacuate),
        "migrate": ServerAction("os-migrate-server:migrate", migrate),
        "os-migrateLive": ServerAction("os-migrate-server:migrate_live", migrateLive),
        "trigger_crash_dump": ServerAction("servers:trigger_crash_dump", at: 17...Int.max, triggerCrashDump),
        "os-getVNCConsole": ServerAction("os-remote-consoles", at: 1...5, remoteConsole(["novnc", "xvpvnc"])),
        "os-getSPICEConsole": ServerAction("os-remote-consoles", at: 1...5, remoteConsole(["spice-html5"])),
        "os-getSerialConsole": ServerAction("os-remote-consoles", at: 1...5, remoteConsole(["serial"])),
        "os-getRDPConsole": ServerAction("os-remote-consoles", at: 1...5, remoteConsole(["rdp-html5"])),
    ]
}

/// An action on its way: what was asked of which server.
struct ServerActionCall: Sendable {
    let name: String
    let argument: JSON
    let server: Instance
    let call: ComputeCall
    let parts: ComputeParts

    /// The argument's members; those that are left at the end are refused by `finish`.
    func fields() throws(APIError) -> BodyFields { try BodyFields(argument, as: name) }

    func requireNoArgument() throws(APIError) {
        guard argument.isNull || argument.members?.isEmpty == true else {
            throw .badRequest("Invalid input for \(name): the action has no argument.")
        }
    }

    /// Throws 400 when the guest has a TPM in software, whose state `request` would part from the disk.
    func requireNoVirtualTPM(_ request: InstanceRequest) async throws {
        var properties = server.imageProperties
        if properties == nil { properties = try await parts.images.find(server.imageID)?.properties }
        guard server.hasVirtualTPM(imageProperties: properties ?? [:]) else { return }
        throw APIError.badRequest(server.virtualTPMRefusal(of: request.name))
    }

    /// Accepts `request` and has the host do `command`; the answer is 202.
    func command(
        _ request: InstanceRequest, _ command: GuestCommand,
        change: @escaping @Sendable (inout Instance) throws -> Void = { _ in }
    ) async throws -> HTTPResponse {
        _ = try await changeServer(server, request, call, parts, kind: TaskKind.guest, change: change) {
            GuestTaskState(instance: $0.id, command: command)
        }
        return HTTPResponse(202)
    }
}

extension Instance {
    /// Keeps the state to come back to. A state to come back from is not one to come back to.
    mutating func rememberVMState() {
        switch vmState {
        case .rescued, .shelved, .shelvedOffloaded, .softDeleted, .deleted, .building: break
        default: previousVMState = vmState
        }
    }
}
