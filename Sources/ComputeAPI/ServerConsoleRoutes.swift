internal import HTTP
internal import Model

/// Consoles with a screen or a line. They need the console proxy, which is not there: what is asked is checked, then
/// refused as Nova refuses a type that no host offers.
extension ComputeRoutes {
    private static let types: [String: Set<String>] = [
        "vnc": ["novnc", "xvpvnc"], "spice": ["spice-html5"], "serial": ["serial"], "rdp": ["rdp-html5"],
        "mks": ["webmks"],
    ]

    mutating func addConsoles() {
        addServer(.post, "/remote-consoles", rule: "os-remote-consoles", versions: 6...Int.max) { call, server in
            var (fields, _) = try BodyFields.body(call.request.bytes, member: "remote_console")
            let protocols = ["vnc", "spice", "serial", "rdp"] + (call.isAtLeast(8) ? ["mks"] : [])
            let direct: Set<String> = call.isAtLeast(99) ? ["spice-direct"] : []
            let all = protocols.flatMap { Self.types[$0] ?? [] } + direct
            guard let name = try fields.choice("protocol", protocols), let type = try fields.choice("type", all) else {
                throw APIError.badRequest(
                    "Invalid input for field/attribute remote_console. 'protocol' and 'type' are required properties.")
            }
            try fields.finish()
            guard Self.types[name]?.contains(type) == true || name == "spice" && direct.contains(type) else {
                throw APIError.badRequest("Invalid input for field/attribute type: \(name) has no type \(type).")
            }
            throw try noConsole(type, of: server, call)
        }
    }
}

extension ServerAction {
    /// `os-getVNCConsole` and its like, up to 2.5.
    static func remoteConsole(_ types: [String]) -> Run {
        { action in
            var fields = try action.fields()
            guard let type = try fields.choice("type", types) else {
                throw APIError.badRequest("Invalid input for \(action.name): 'type' is a required property.")
            }
            try fields.finish()
            throw try noConsole(type, of: action.server, action.call)
        }
    }
}

private func noConsole(_ type: String, of server: Instance, _ call: ComputeCall) throws(APIError) -> APIError {
    try requireAdmitted(.remoteConsole, to: server, call)
    return .badRequest("Unavailable console type \(type).")
}
