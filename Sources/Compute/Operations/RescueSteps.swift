internal import Model
internal import RPC
internal import Tasks

/// Makes the disk that the guest is rescued with.
struct CreateRescueDisks: GuestStep {
    let name = "create_rescue_disks"
    let deadline = Duration.seconds(600)

    func run(_ state: inout CommandState, _ tools: OperationTools) async throws -> StepOutcome {
        // What an earlier rescue left must not be taken for this one's.
        try await tools.requireOff(state.instanceID)
        try await tools.driver.removeRescueDisks(state.instanceID)
        try await tools.driver.createRescueDisks(state.changed(try await tools.specification(state.instanceID)))
        return .next
    }

    func undo(_ state: inout CommandState, _ tools: OperationTools) async throws {
        try await tools.requireOff(state.instanceID)
        try await tools.driver.removeRescueDisks(state.instanceID)
    }
}

/// Defines the domain as the command wants it: with the rescue's disk first, or with the own one again. The record goes
/// ahead of the hypervisor, so that whoever defines the domain next defines the same.
struct DefineChangedDomain: GuestStep {
    let name = "define_changed_domain"
    let deadline = Duration.seconds(60)

    func run(_ state: inout CommandState, _ tools: OperationTools) async throws -> StepOutcome {
        let wanted = state
        let changed = try await tools.change(state.instanceID) { $0 = wanted.changed($0) }
        try await tools.define(changed)
        return .next
    }

    func undo(_ state: inout CommandState, _ tools: OperationTools) async throws {
        let former = state.rescueImage
        switch state.command {
        case .rescue: break
        case .unrescue where state.isDismantled != true: break
        default: return
        }
        let changed = try await tools.change(state.instanceID) { $0.rescueImage = former }
        try await tools.define(changed)
    }
}

/// Removes the disk that the guest was rescued with.
struct RemoveRescueDisks: GuestStep {
    let name = "remove_rescue_disks"
    let deadline = Duration.seconds(120)
    let retry = RetryPolicy.standard

    func run(_ state: inout CommandState, _ tools: OperationTools) async throws -> StepOutcome {
        try await tools.requireOff(state.instanceID)
        state.isDismantled = true
        try await tools.driver.removeRescueDisks(state.instanceID)
        return .next
    }
}

/// Writes the config drive of a rescue or a rebuild, and forgets the secrets that went into it.
struct WriteCommandConfigDrive: GuestStep {
    let name = "write_config_drive"
    let deadline = Duration.seconds(60)

    func run(_ state: inout CommandState, _ tools: OperationTools) async throws -> StepOutcome {
        var guest = state.changed(try await tools.specification(state.instanceID))
        guest.instance = state.instance
        let secrets = ConfigDriveSecrets(
            adminPassword: state.material?.adminPassword, files: state.material?.files ?? [])
        try await tools.driver.writeConfigDrive(guest, secrets: secrets)
        state.forgetSecrets()
        return .next
    }
    // A rescue's drive goes with its disk, a rebuild's with the guest.
}
