internal import Database
internal import HTTP
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
            case .served(let run): return try await run(call, server, argument, parts)
            case .notBuilt: throw APIError.notAvailable("The action '\(name)'")
            }
        }
    }
}

/// One action: its rule, the versions at which there is such an action, and what it does.
struct ServerAction: Sendable {
    typealias Run = @Sendable (ComputeCall, Instance, JSON, ComputeParts) async throws -> HTTPResponse

    enum Content: Sendable {
        case served(Run)
        /// Nova has it; Apus will.
        case notBuilt
    }

    let rule: String
    let versions: ClosedRange<Int>
    let content: Content

    private init(_ rule: String, _ versions: ClosedRange<Int> = 1...Int.max, _ content: Content = .notBuilt) {
        (self.rule, self.versions, self.content) = (rule, versions, content)
    }

    private static let always = 1...Int.max

    static let all: [String: ServerAction] = [
        "os-start": ServerAction("servers:start", always, .served(start)),
        "os-stop": ServerAction("servers:stop", always, .served(stop)),
        "reboot": ServerAction("servers:reboot", always, .served(reboot)),
        "os-getConsoleOutput": ServerAction("os-console-output", always, .served(consoleOutput)),
        "pause": ServerAction("os-pause-server:pause"),
        "unpause": ServerAction("os-pause-server:unpause"),
        "suspend": ServerAction("os-suspend-server:suspend"),
        "resume": ServerAction("os-suspend-server:resume"),
        "lock": ServerAction("os-lock-server:lock"),
        "unlock": ServerAction("os-lock-server:unlock"),
        "resize": ServerAction("servers:resize"),
        "confirmResize": ServerAction("servers:confirm_resize"),
        "revertResize": ServerAction("servers:revert_resize"),
        "rebuild": ServerAction("servers:rebuild"),
        "rescue": ServerAction("os-rescue"),
        "unrescue": ServerAction("os-unrescue"),
        "shelve": ServerAction("os-shelve:shelve"),
        "shelveOffload": ServerAction("os-shelve:shelve_offload"),
        "unshelve": ServerAction("os-shelve:unshelve"),
        "createImage": ServerAction("servers:create_image"),
        "createBackup": ServerAction("os-create-backup"),
        "changePassword": ServerAction("os-admin-password"),
        "addSecurityGroup": ServerAction("os-security-groups:add"),
        "removeSecurityGroup": ServerAction("os-security-groups:remove"),
        "addFixedIp": ServerAction("os-multinic:add", 1...43),
        "removeFixedIp": ServerAction("os-multinic:remove", 1...43),
        "addFloatingIp": ServerAction("os-floating-ips:add", 1...43),
        "removeFloatingIp": ServerAction("os-floating-ips:remove", 1...43),
        "os-resetState": ServerAction("os-admin-actions:reset_state"),
        "injectNetworkInfo": ServerAction("os-admin-actions:inject_network_info"),
        "resetNetwork": ServerAction("os-admin-actions:reset_network"),
        "forceDelete": ServerAction("os-deferred-delete:force"),
        "restore": ServerAction("os-deferred-delete:restore"),
        "evacuate": ServerAction("os-evacuate"),
        "migrate": ServerAction("os-migrate-server:migrate"),
        "os-migrateLive": ServerAction("os-migrate-server:migrate_live"),
        "trigger_crash_dump": ServerAction("servers:trigger_crash_dump", 17...Int.max),
        "os-getVNCConsole": ServerAction("os-remote-consoles", 1...5),
        "os-getSPICEConsole": ServerAction("os-remote-consoles", 1...5),
        "os-getSerialConsole": ServerAction("os-remote-consoles", 1...5),
        "os-getRDPConsole": ServerAction("os-remote-consoles", 1...5),
    ]

    // MARK: - What is served

    @Sendable private static func start(
        _ call: ComputeCall, _ server: Instance, _ argument: JSON, _ parts: ComputeParts
    ) async throws -> HTTPResponse {
        try requireNoArgument(argument, "os-start")
        return try await power(.start, .start, server, call, parts)
    }

    @Sendable private static func stop(
        _ call: ComputeCall, _ server: Instance, _ argument: JSON, _ parts: ComputeParts
    ) async throws -> HTTPResponse {
        try requireNoArgument(argument, "os-stop")
        return try await power(.stop, .stop, server, call, parts)
    }

    @Sendable private static func reboot(
        _ call: ComputeCall, _ server: Instance, _ argument: JSON, _ parts: ComputeParts
    ) async throws -> HTTPResponse {
        var fields = try BodyFields(argument, as: "reboot")
        guard let text = try fields.text("type")?.uppercased(), let type = RebootType(rawValue: text) else {
            throw APIError.badRequest("Invalid input for field/attribute type: SOFT or HARD is wanted.")
        }
        try fields.finish()
        return try await power(.reboot(type), type == .soft ? .softReboot : .hardReboot, server, call, parts)
    }

    private static func requireNoArgument(_ argument: JSON, _ name: String) throws(APIError) {
        guard argument.isNull || argument.members?.isEmpty == true else {
            throw .badRequest("Invalid input for \(name): the action has no argument.")
        }
    }

    private static func power(
        _ request: InstanceRequest, _ change: ChangePower.Change, _ server: Instance, _ call: ComputeCall,
        _ parts: ComputeParts
    ) async throws -> HTTPResponse {
        _ = try await changeServer(server, request, call, parts, kind: TaskKind.power) {
            PowerTaskState(instance: server.id, change: change)
        }
        return HTTPResponse(202)
    }

    @Sendable private static func consoleOutput(
        _ call: ComputeCall, _ server: Instance, _ argument: JSON, _ parts: ComputeParts
    ) async throws -> HTTPResponse {
        var lines: Int?
        if !argument.isNull {
            var fields = try BodyFields(argument, as: "os-getConsoleOutput")
            if let value = fields.take("length"), !value.isNull {
                var length = try BodyFields(.object(["length": value]), as: "os-getConsoleOutput")
                lines = try length.integer("length", -1...Int(Int32.max))
            }
            try fields.finish()
        }
        guard server.host != nil else { throw APIError.conflict("Instance \(server.id) is not ready") }
        let output = try await parts.conductor.consoleOutput(server.id, lines: lines.flatMap { $0 < 0 ? nil : $0 })
        return jsonAnswer(capacity: output.utf8.count + 64) { $0.member("output", output) }
    }
}
