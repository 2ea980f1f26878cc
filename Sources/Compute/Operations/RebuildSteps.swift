internal import Model
internal import RPC
internal import Tasks

/// Takes away what the old guest was: definition, firmware variables, TPM state, saved memory, disks. From here on there
/// is no way back.
struct DismantleGuest: GuestStep {
    let name = "dismantle_guest"
    let deadline = Duration.seconds(300)
    let retry = RetryPolicy.standard
    let taskState: TaskState? = .rebuildBlockDeviceMapping

    func run(_ state: inout CommandState, _ tools: OperationTools) async throws -> StepOutcome {
        try await tools.requireOff(state.instanceID)
        state.isDismantled = true
        try await tools.driver.undefine(state.instanceID)
        try await tools.driver.removeDisks(state.instanceID)
        return .next
    }
}

/// Makes the guest's disks afresh from the new image.
struct CreateRebuiltDisks: GuestStep {
    let name = "create_disks"
    let deadline = Duration.seconds(600)
    let retry = RetryPolicy.standard
    let taskState: TaskState? = .rebuildSpawning

    func run(_ state: inout CommandState, _ tools: OperationTools) async throws -> StepOutcome {
        let wanted = state
        let changed = try await tools.change(state.instanceID) { $0 = wanted.changed($0) }
        // An agent that was down for long may find that the image has left the cache since it was fetched.
        try await tools.prepareImage(changed.image, for: changed.instance.flavor, of: state.instanceID)
        try await tools.driver.createDisks(changed)
        return .next
    }
}

/// Powers the new guest on, unless the old one was off.
struct PowerOnRebuilt: GuestStep {
    let name = "power_on_guest"
    let deadline = Duration.seconds(120)
    let retry = RetryPolicy.standard

    func run(_ state: inout CommandState, _ tools: OperationTools) async throws -> StepOutcome {
        guard state.vmState != .stopped else { return .next }
        try await tools.driver.powerOn(state.instanceID)
        return .next
    }
}
