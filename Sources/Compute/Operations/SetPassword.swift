internal import Model
internal import RPC
internal import Tasks

/// Sets the administrator's password through the guest agent, and forgets it.
struct SetPassword: GuestStep {
    let name = "set_password"
    let deadline = Duration.seconds(120)

    func run(_ state: inout CommandState, _ tools: OperationTools) async throws -> StepOutcome {
        guard case .setPassword(let password) = state.command else {
            throw Failure(.internalError, "the operation has no password")
        }
        let guest = try await tools.specification(state.instanceID)
        let properties = state.instance.imageProperties ?? guest.image.properties
        let user = Self.administrator(properties)
        // Forgotten with its first use: a password whose setting failed is for the user to send again.
        defer { state.forgetSecrets() }
        try await requireAgent(state.instanceID, properties, tools)
        try await tools.driver.setPassword(state.instanceID, user: user, password: password)
        return .next
    }

    /// Throws when no agent answers, before the password is given to one that may not be there: `.timeout` where one
    /// should be, `.conflict` where the guest is off or its image names none.
    private func requireAgent(
        _ id: InstanceID, _ properties: [String: String], _ tools: OperationTools
    ) async throws {
        guard try await !tools.driver.pingGuestAgent(id) else { return }
        guard try await tools.driver.observe(id)?.powerState == .running else {
            throw Failure(.conflict, "instance \(id) is not running")
        }
        guard isTrue(properties["hw_qemu_guest_agent"]) else {
            throw Failure(.conflict, "QEMU guest agent is not enabled: the image does not say hw_qemu_guest_agent=yes")
        }
        throw Failure(.timeout, "the guest agent of instance \(id) does not answer")
    }

    /// Whose password it is.
    static func administrator(_ properties: [String: String]) -> String {
        if let user = properties["os_admin_user"], !user.isEmpty { return user }
        return properties["os_type"]?.lowercased() == "windows" ? "Administrator" : "root"
    }
}

/// Whether an image's property says yes, in the words of the tools of this field.
func isTrue(_ value: String?) -> Bool { ["1", "t", "true", "on", "y", "yes"].contains(value?.lowercased() ?? "") }
