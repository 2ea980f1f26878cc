internal import Model
internal import Tasks

/// Makes the instance's folder and its disks.
struct CreateDisks: GuestStep {
    let name = "create_disks"
    let deadline = Duration.seconds(600)
    let taskState: TaskState? = .blockDeviceMapping

    func run(_ state: inout BuildState, _ tools: OperationTools) async throws -> StepOutcome {
        // An agent that was down for long may find the cache tidied since the image was fetched.
        try await tools.prepareImage(state)
        try await tools.driver.createDisks(state.specification)
        return .next
    }

    func undo(_ state: inout BuildState, _ tools: OperationTools) async throws {
        try await tools.requireOff(state.instanceID)
        try await tools.driver.removeDisks(state.instanceID)
    }
}
