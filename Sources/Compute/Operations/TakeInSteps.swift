internal import Model
internal import RPC
internal import Tasks

/// Looks whether this host sees the disks of the guest: it shares the folder with the host that is dead.
struct FindDisks: GuestStep {
    let name = "find_disks"
    let deadline = Duration.seconds(60)

    func run(_ state: inout TakeInState, _ tools: OperationTools) async throws -> StepOutcome {
        if let seen = try await tools.driver.observe(state.instanceID) {
            throw Failure(.conflict, "the hypervisor of this host has a domain \(seen.name) already")
        }
        let sees = try await tools.driver.seesDisks(state.instanceID, besides: state.migration)
        guard state.isSaidToShare == nil || state.isSaidToShare == sees else {
            throw Failure(
                .storage,
                sees
                    ? "the instance is said not to be on shared storage, and this host sees its disks"
                    : "the instance is said to be on shared storage, and this host does not see its disks")
        }
        state.sharesDisks = sees
        return .next
    }
}

/// Has the image that the guest's disk stands on, or is to be made from.
struct FetchTakenInImage: GuestStep {
    let name = "fetch_image"
    let deadline = Duration.seconds(3_600)
    let retry = RetryPolicy.standard

    func run(_ state: inout TakeInState, _ tools: OperationTools) async throws -> StepOutcome {
        let guest = state.specification
        try await tools.prepareImage(guest.image, for: guest.instance.flavor, of: state.instanceID)
        return .next
    }
}

/// Makes the guest's disks and its config drive afresh; nothing where the disks are here.
struct MakeTakenInDisks: GuestStep {
    let name = "make_disks"
    let deadline = Duration.seconds(600)
    let retry = RetryPolicy.standard

    func run(_ state: inout TakeInState, _ tools: OperationTools) async throws -> StepOutcome {
        defer { state.forgetSecrets() }
        guard state.sharesDisks == false else { return .next }
        let guest = state.specification
        try await tools.driver.beginTakingIn(state.instanceID, by: state.migration)
        // An agent that was down for long may find that the image has left the cache since it was fetched.
        try await tools.prepareImage(guest.image, for: guest.instance.flavor, of: state.instanceID)
        try await tools.driver.createDisks(guest)
        try await tools.driver.writeConfigDrive(guest, secrets: ConfigDriveSecrets(adminPassword: state.adminPassword))
        return .next
    }

    func undo(_ state: inout TakeInState, _ tools: OperationTools) async throws {
        guard state.sharesDisks == false else { return }
        try await tools.requireOff(state.instanceID)
        try await tools.driver.removeTakenOver(state.instanceID, of: state.migration)
    }
}

/// Defines the guest as it is to be here.
struct DefineTakenIn: GuestStep {
    let name = "define_domain"
    let deadline = Duration.seconds(60)

    func run(_ state: inout TakeInState, _ tools: OperationTools) async throws -> StepOutcome {
        try await tools.define(state.specification)
        return .next
    }

    func undo(_ state: inout TakeInState, _ tools: OperationTools) async throws {
        try await tools.driver.undefine(state.instanceID)
        try await tools.removeMediatedDevices(of: state.specification)
    }
}

/// Starts the guest, unless it is to stay off. On disks that another host still writes the hypervisor's lock refuses it.
struct StartTakenIn: GuestStep {
    let name = "start_guest"
    let deadline = Duration.seconds(120)

    func run(_ state: inout TakeInState, _ tools: OperationTools) async throws -> StepOutcome {
        guard state.vmState == .active else { return .next }
        await tools.claimsAreReported()
        try await tools.driver.powerOn(state.instanceID)
        state.launchedAt = tools.now()
        return .next
    }

    func undo(_ state: inout TakeInState, _ tools: OperationTools) async throws {
        try await tools.driver.powerOff(state.instanceID, grace: .zero)
    }
}

/// Pulls the plug of a guest that lives elsewhere.
struct PowerOffStale: GuestStep {
    let name = "power_off"
    let deadline = Duration.seconds(120)
    let retry = RetryPolicy.standard

    func run(_ state: inout DiscardState, _ tools: OperationTools) async throws -> StepOutcome {
        try await tools.pullPlug(state.instanceID)
        return .next
    }
}

/// Takes it from the hypervisor and the network. Its MACs and addresses are those of the new guest.
struct RemoveStaleDomain: GuestStep {
    let name = "remove_domain"
    let deadline = Duration.seconds(120)
    let retry = RetryPolicy.standard

    func run(_ state: inout DiscardState, _ tools: OperationTools) async throws -> StepOutcome {
        guard state.isDecided else { return .next }
        try await tools.requireOff(state.instanceID)
        try await tools.dropGuest(state.instanceID, try await tools.guest(state.instanceID)?.specification)
        return .next
    }
}

/// Removes its disks, unless the new guest's are the same ones, or that is not known.
struct RemoveStaleDisks: GuestStep {
    let name = "remove_disks"
    let deadline = Duration.seconds(300)
    let retry = RetryPolicy.standard

    func run(_ state: inout DiscardState, _ tools: OperationTools) async throws -> StepOutcome {
        guard state.isDecided, state.sharesDisks == false else { return .next }
        try await tools.requireOff(state.instanceID)
        try await tools.driver.removeDisks(state.instanceID)
        return .next
    }
}
