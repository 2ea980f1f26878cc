internal import Model
internal import Tasks

/// Reserves what the guest's NICs need.
struct PlugNetwork: GuestStep {
    let name = "plug_network"
    let deadline = Duration.seconds(60)
    let taskState: TaskState? = .networking

    func run(_ state: inout BuildState, _ tools: OperationTools) async throws -> StepOutcome {
        state.interfaces = try await tools.driver.plugNetwork(state.instance)
        return .next
    }

    func undo(_ state: inout BuildState, _ tools: OperationTools) async throws {
        // A guest that still runs would go on using its address after it was given to another.
        try await tools.requireOff(state.instanceID)
        try await tools.driver.unplugNetwork(state.instanceID, state.interfaces ?? [])
    }
}
