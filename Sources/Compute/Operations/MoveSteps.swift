internal import Model
internal import RPC
internal import Synchronization
internal import Tasks

/// Has the conductor know of the room that the move takes here before anything of the guest is touched.
struct ReportReservedRoom: GuestStep {
    let name = "report_reserved_room"
    let deadline = Duration.seconds(60)

    func run(_ state: inout MoveState, _ tools: OperationTools) async throws -> StepOutcome {
        await tools.claimsAreReported()
        return .next
    }
}

/// Shuts the guest down for as long as the move takes; a later failure starts it again.
struct ShutDownForMove: GuestStep {
    let name = "shut_down_for_move"
    /// The host's, for images that do not say.
    let grace: Duration
    let deadline = Duration.seconds(3_600 + 120)
    let undoesOnCancel = false

    func run(_ state: inout MoveState, _ tools: OperationTools) async throws -> StepOutcome {
        let grace = ShutdownGrace.of(state.specification.instance, default: grace)
        try await tools.driver.powerOff(state.instanceID, grace: grace)
        // Memory that was saved belongs to this host's definition of the guest.
        try await tools.driver.discardSavedMemory(state.instanceID)
        return .next
    }

    func undo(_ state: inout MoveState, _ tools: OperationTools) async throws {
        guard state.vmState == .active else { return }
        try await tools.driver.powerOn(state.instanceID)
    }
}

/// Puts the guest's disks where nothing starts from them.
struct SetAsideDisks: GuestStep {
    let name = "set_aside_disks"
    let deadline = Duration.seconds(120)
    let undoesOnCancel = false

    func run(_ state: inout MoveState, _ tools: OperationTools) async throws -> StepOutcome {
        try await tools.requireOff(state.instanceID)
        try await tools.driver.setAside(state.instanceID, for: state.migration)
        return .next
    }

    func undo(_ state: inout MoveState, _ tools: OperationTools) async throws {
        try await tools.driver.bringBack(state.instanceID, of: state.migration)
    }
}

/// Has the image that the guest's disk stands on.
struct FetchMovedImage: GuestStep {
    let name = "fetch_moved_image"
    let deadline = Duration.seconds(3_600)
    let retry = RetryPolicy.standard

    func run(_ state: inout MoveState, _ tools: OperationTools) async throws -> StepOutcome {
        let guest = state.specification
        try await tools.prepareImage(guest.image, for: guest.instance.flavor, of: state.instanceID)
        return .next
    }
}

/// What the coming of a guest from another host keeps between its steps, whatever the way by which it comes.
protocol ArrivalState: OperationState {
    var specification: GuestSpecification { get set }
    /// Whether it comes from this very host.
    var isSameHost: Bool { get }
}

extension MoveState: ArrivalState {}

extension TakeInState: ArrivalState {
    var isSameHost: Bool { false }
}

/// Reserves what the guest's NICs need here, with the MACs and addresses that they have.
struct AdoptNetwork<State: ArrivalState>: GuestStep {
    let name = "adopt_network"
    let deadline = Duration.seconds(60)
    let retry = RetryPolicy.standard

    func run(_ state: inout State, _ tools: OperationTools) async throws -> StepOutcome {
        state.specification.interfaces = try await tools.driver.adoptNetwork(
            state.instanceID, state.specification.instance.interfaces)
        return .next
    }

    func undo(_ state: inout State, _ tools: OperationTools) async throws {
        guard !state.isSameHost else { return }
        try await tools.requireOff(state.instanceID)
        try await tools.driver.leaveNetwork(state.instanceID, state.specification.interfaces)
    }
}

/// Who tells of a progress now and then. Nobody waits for it: a conductor that is away does not keep disks from coming.
private final class Telling: Sendable {
    private let state = Mutex((last: ContinuousClock.now, isUnderWay: false))

    /// Whether it is time again, and the last one has been told.
    func begins(after interval: Duration) -> Bool {
        state.withLock { state in
            guard !state.isUnderWay, state.last.duration(to: .now) >= interval else { return false }
            state = (.now, true)
            return true
        }
    }

    func ends() { state.withLock { $0.isUnderWay = false } }
}

/// Brings the disks here, at their new sizes.
struct TakeOverDisks: GuestStep {
    private static let tellInterval = Duration.seconds(1)

    let name = "take_over_disks"
    let deadline = Duration.seconds(24 * 3_600)
    // An agent that starts anew, or a link that is down, takes minutes; what is here stays.
    let retry = RetryPolicy(
        maxAttempts: 40, initialBackoff: .milliseconds(500), maxBackoff: .seconds(15))

    func run(_ state: inout MoveState, _ tools: OperationTools) async throws -> StepOutcome {
        guard case .takeOver(_, let source) = state.order else { return .next }
        let (id, migration, tell) = (state.instanceID, state.migration, tools.tellProgress)
        let telling = Telling()
        try await tools.driver.takeOverDisks(
            state.specification, of: migration, from: tools.moved(source, migration, id)
        ) { done, total in
            guard telling.begins(after: Self.tellInterval) else { return }
            let progress = MigrationProgress(
                diskTotal: total, diskProcessed: done, diskRemaining: max(0, total - done))
            Task {
                await tell(id, migration, progress, false)
                telling.ends()
            }
        }
        return .next
    }

    func undo(_ state: inout MoveState, _ tools: OperationTools) async throws {
        try await tools.requireOff(state.instanceID)
        try await tools.driver.removeTakenOver(state.instanceID, of: state.migration)
    }
}

/// Defines the guest as it is to be here.
struct DefineMovedDomain: GuestStep {
    let name = "define_moved_domain"
    let deadline = Duration.seconds(60)

    func run(_ state: inout MoveState, _ tools: OperationTools) async throws -> StepOutcome {
        state.forgetSecrets()
        try await tools.define(state.specification)
        return .next
    }

    func undo(_ state: inout MoveState, _ tools: OperationTools) async throws {
        // On the guest's own host the definition of before comes back with its disks.
        guard !state.isSameHost else { return }
        try await tools.driver.undefine(state.instanceID)
        try await tools.removeMediatedDevices(of: state.specification)
    }
}

/// Starts the guest unless it was off before the move.
struct StartMovedGuest: GuestStep {
    let name = "start_moved_guest"
    let deadline = Duration.seconds(120)

    func run(_ state: inout MoveState, _ tools: OperationTools) async throws -> StepOutcome {
        guard state.vmState == .active else { return .next }
        try await tools.driver.powerOn(state.instanceID)
        return .next
    }

    func undo(_ state: inout MoveState, _ tools: OperationTools) async throws {
        try await tools.driver.powerOff(state.instanceID, grace: .zero)
    }
}

/// Pulls the plug of what the move has made here.
struct PowerOffMovedGuest: GuestStep {
    let name = "power_off_moved_guest"
    let deadline = Duration.seconds(120)
    let retry = RetryPolicy.standard

    func run(_ state: inout MoveState, _ tools: OperationTools) async throws -> StepOutcome {
        tools.live.gates.close(state.instanceID, of: state.migration)
        try await tools.driver.removeLiveSockets(of: state.migration)
        guard !state.isForeign else { return .next }
        try await tools.pullPlug(state.instanceID)
        return .next
    }
}

/// Removes what the move has made here, and nothing else: on a shared folder the disks that are not of this migration are
/// the guest's own.
struct RemoveTakenOver: GuestStep {
    let name = "remove_taken_over"
    let deadline = Duration.seconds(300)
    let retry = RetryPolicy.standard

    func run(_ state: inout MoveState, _ tools: OperationTools) async throws -> StepOutcome {
        guard !state.isForeign else { return .next }
        try await tools.requireOff(state.instanceID)
        if !state.isSameHost { try await tools.dropGuest(state.instanceID, state.specification) }
        try await tools.driver.removeTakenOver(state.instanceID, of: state.migration)
        return .next
    }
}

/// Puts the disks back where the guest starts from them.
struct BringBackDisks: GuestStep {
    let name = "bring_back_disks"
    let deadline = Duration.seconds(120)
    let retry = RetryPolicy.standard

    func run(_ state: inout MoveState, _ tools: OperationTools) async throws -> StepOutcome {
        try await tools.driver.bringBack(state.instanceID, of: state.migration)
        return .next
    }
}

/// Defines the guest as it was.
struct DefineFormerDomain: GuestStep {
    let name = "define_former_domain"
    let deadline = Duration.seconds(60)
    let retry = RetryPolicy.standard

    func run(_ state: inout MoveState, _ tools: OperationTools) async throws -> StepOutcome {
        // One that was never set aside runs on as it is.
        if state.isSetAside { try await tools.define(state.specification) }
        return .next
    }
}

/// Starts the guest again that was shut down for the move.
struct StartFormerGuest: GuestStep {
    let name = "start_former_guest"
    let deadline = Duration.seconds(120)
    let retry = RetryPolicy.standard

    func run(_ state: inout MoveState, _ tools: OperationTools) async throws -> StepOutcome {
        if state.vmState == .active { try await tools.driver.powerOn(state.instanceID) }
        return .next
    }
}

/// Removes what this host has kept of a guest that lives elsewhere, or in another size, for good.
struct RemoveSetAside: GuestStep {
    let name = "remove_set_aside"
    let deadline = Duration.seconds(300)
    let retry = RetryPolicy.standard

    func run(_ state: inout MoveState, _ tools: OperationTools) async throws -> StepOutcome {
        if !state.isSameHost {
            try await tools.requireOff(state.instanceID)
            try await tools.dropGuest(state.instanceID, state.specification)
        }
        try await tools.driver.removeSetAside(state.instanceID, of: state.migration)
        return .next
    }
}

extension OperationTools {
    /// Takes the guest from the hypervisor and the network: all but its disks.
    func dropGuest(_ id: InstanceID, _ guest: GuestSpecification?) async throws {
        do {
            try await driver.undefine(id)
        } catch let failure as Failure where failure.kind == .conflict {
            // A domain of that name which is not ours stays.
        }
        try await removeMediatedDevices(of: guest)
        try await driver.leaveNetwork(id, guest?.interfaces ?? [])
    }
}
