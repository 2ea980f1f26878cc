internal import Model
internal import Tasks

/// Asks the guest to shut down, and pulls the plug when it does not.
struct ShutDownGuest: GuestStep {
    let name = "shut_down_guest"
    let grace: Duration
    var deadline: Duration { grace + .seconds(120) }

    func run(_ state: inout PowerOperationState, _ tools: OperationTools) async throws -> StepOutcome {
        try await tools.driver.powerOff(state.instanceID, grace: grace)
        return .finish
    }
}

/// Asks the guest to reboot by itself. When it does not, or cannot be asked, the steps of a hard reboot follow.
struct AskGuestToReboot: GuestStep {
    let name = "ask_guest_to_reboot"
    let grace: Duration
    let taskState: TaskState? = .rebootStarted
    var deadline: Duration { grace + .seconds(120) }

    func run(_ state: inout PowerOperationState, _ tools: OperationTools) async throws -> StepOutcome {
        do {
            return try await tools.driver.softReboot(state.instanceID, grace: grace) ? .finish : .next
        } catch let failure as Failure where failure.kind != .cancelled {
            return .next
        }
    }
}

/// Pulls the guest's plug before it is started afresh.
struct ResetGuest: GuestStep {
    let name = "reset_guest"
    let deadline = Duration.seconds(120)

    func run(_ state: inout PowerOperationState, _ tools: OperationTools) async throws -> StepOutcome {
        try await tools.driver.powerOff(state.instanceID, grace: .zero)
        return .next
    }
}

/// Makes the domain's definition afresh from the record.
struct RedefineDomain: GuestStep {
    let name = "redefine_domain"
    let deadline = Duration.seconds(60)

    func run(_ state: inout PowerOperationState, _ tools: OperationTools) async throws -> StepOutcome {
        guard let guest = try await tools.guest(state.instanceID) else {
            throw Failure(.notFound, "instance \(state.instanceID) is not on this host")
        }
        try await tools.driver.define(guest.specification)
        return .next
    }
}

/// Powers a defined guest on.
struct PowerOnGuest: GuestStep {
    let name = "power_on_guest"
    let deadline = Duration.seconds(120)

    func run(_ state: inout PowerOperationState, _ tools: OperationTools) async throws -> StepOutcome {
        try await tools.driver.powerOn(state.instanceID)
        return .next
    }
}
