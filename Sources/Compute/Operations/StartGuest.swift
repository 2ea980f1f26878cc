internal import Model
internal import Tasks

/// Powers the new guest on.
struct StartGuest: GuestStep {
    let name = "start_guest"
    let deadline = Duration.seconds(120)
    let taskState: TaskState? = .spawning

    func run(_ state: inout BuildState, _ tools: OperationTools) async throws -> StepOutcome {
        // What the guest takes is on record before it takes it, so that nobody counts on it meanwhile.
        await tools.claimsAreReported()
        try await tools.driver.powerOn(state.instanceID)
        state.launchedAt = tools.now()
        return .next
    }

    func undo(_ state: inout BuildState, _ tools: OperationTools) async throws {
        try await tools.driver.powerOff(state.instanceID, grace: .zero)
    }
}
