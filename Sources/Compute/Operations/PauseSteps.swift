internal import Model
internal import Tasks

/// Stops the guest's processors.
struct PauseGuest: GuestStep {
    let name = "pause_guest"
    let deadline = Duration.seconds(60)
    let retry = RetryPolicy.standard

    func run(_ state: inout CommandState, _ tools: OperationTools) async throws -> StepOutcome {
        try await tools.driver.pause(state.instanceID)
        return .next
    }
}

/// Lets a paused guest go on.
struct UnpauseGuest: GuestStep {
    let name = "unpause_guest"
    let deadline = Duration.seconds(60)
    let retry = RetryPolicy.standard

    func run(_ state: inout CommandState, _ tools: OperationTools) async throws -> StepOutcome {
        try await tools.driver.unpause(state.instanceID)
        return .next
    }
}
