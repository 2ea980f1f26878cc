internal import HTTP
internal import Model

/// What changes only the record, at once: the lock, and an administrator's word about the state.
extension ServerAction {
    @Sendable static func lock(_ action: ServerActionCall) async throws -> HTTPResponse {
        var reason: String?
        if action.call.isAtLeast(73), !action.argument.isNull {
            var fields = try action.fields()
            reason = try fields.text("locked_reason", length: 1...255)
            try fields.finish()
        } else {
            try action.requireNoArgument()
        }
        let holder: InstanceLock.Holder =
            action.server.projectID == action.call.caller.projectID ? .owner : .admin
        let why = reason
        _ = try await changeServerAtOnce(action.server, .lock, event: "api_lock", action.call, action.parts) {
            // Whoever locks what an administrator has locked does not make it his.
            let holder = $0.lock?.holder == .admin ? .admin : holder
            $0.lock = InstanceLock(holder: holder, reason: why)
        }
        return HTTPResponse(202)
    }

    @Sendable static func unlock(_ action: ServerActionCall) async throws -> HTTPResponse {
        try action.requireNoArgument()
        let call = action.call
        _ = try await changeServerAtOnce(action.server, .unlock, event: "api_unlock", call, action.parts) {
            if $0.lock?.holder == .admin { try call.require("os-lock-server:unlock:unlock_override") }
            $0.lock = nil
        }
        return HTTPResponse(202)
    }

    /// Corrects the record where it does not tell the truth. What is under way goes on and has the last word.
    @Sendable static func resetState(_ action: ServerActionCall) async throws -> HTTPResponse {
        var fields = try action.fields()
        guard let text = try fields.choice("state", ["active", "error"]) else {
            throw APIError.badRequest("Invalid input for os-resetState: 'state' is a required property.")
        }
        try fields.finish()
        _ = try await changeServerAtOnce(
            action.server, .resetState, event: "api_reset_state", action.call, action.parts
        ) { instance in
            // A move that is done stays to be confirmed or taken back: nothing else would free what its source keeps.
            let good = instance.move?.finishedAt == nil ? VMState.active : .resized
            instance.vmState = text == "active" ? good : .error
            instance.taskState = nil
            if text == "active" { instance.fault = nil }
        }
        return HTTPResponse(202)
    }
}
