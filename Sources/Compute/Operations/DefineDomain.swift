internal import Model
internal import Tasks

/// Defines the guest's domain.
struct DefineDomain: GuestStep {
    let name = "define_domain"
    let deadline = Duration.seconds(60)
    let taskState: TaskState? = .spawning

    func run(_ state: inout BuildState, _ tools: OperationTools) async throws -> StepOutcome {
        let claimed = try await tools.guest(state.instanceID)?.specification
        (state.placement, state.devices) = (claimed?.placement, claimed?.devices)
        state.mediatedDevices = claimed?.mediatedDevices
        try await tools.define(state.specification)
        return .next
    }

    func undo(_ state: inout BuildState, _ tools: OperationTools) async throws {
        try await tools.driver.undefine(state.instanceID)
        try await tools.removeMediatedDevices(of: try await tools.guest(state.instanceID)?.specification)
    }
}
