internal import HTTP
internal import Model
internal import RPC

/// Rebooting, and what needs no change of the server: its console's text, a crash dump.
extension ServerAction {
    @Sendable static func reboot(_ action: ServerActionCall) async throws -> HTTPResponse {
        var fields = try action.fields()
        guard let text = try fields.text("type")?.uppercased(), let type = RebootType(rawValue: text) else {
            throw APIError.badRequest("Invalid input for field/attribute type: SOFT or HARD is wanted.")
        }
        try fields.finish()
        return try await action.command(.reboot(type), type == .soft ? .softReboot : .hardReboot)
    }

    @Sendable static func consoleOutput(_ action: ServerActionCall) async throws -> HTTPResponse {
        var lines: Int?
        if !action.argument.isNull {
            var fields = try action.fields()
            if let value = fields.take("length"), !value.isNull {
                var length = try BodyFields(.object(["length": value]), as: action.name)
                lines = try length.integer("length", -1...Int(Int32.max))
            }
            try fields.finish()
        }
        try requireAdmitted(.consoleOutput, to: action.server, action.call)
        let output = try await action.parts.conductor.consoleOutput(
            action.server.id, lines: lines.flatMap { $0 < 0 ? nil : $0 })
        return jsonAnswer(capacity: output.utf8.count + 64) { $0.member("output", output) }
    }

    @Sendable static func triggerCrashDump(_ action: ServerActionCall) async throws -> HTTPResponse {
        try action.requireNoArgument()
        try requireAdmitted(.triggerCrashDump, to: action.server, action.call)
        let (server, conductor) = (action.server, action.parts.conductor)
        try await recordingAction(
            .triggerCrashDump, of: server, event: "compute_trigger_crash_dump", action.call, action.parts
        ) { try await conductor.triggerCrashDump(server.id) }
        return HTTPResponse(202)
    }
}
