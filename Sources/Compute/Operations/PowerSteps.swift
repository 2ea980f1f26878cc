internal import Model
internal import Tasks

/// Asks the guest to shut down, and pulls the plug when it does not.
struct ShutDownGuest: GuestStep {
    let name = "shut_down_guest"
    /// The host's, for images that do not say.
    let grace: Duration
    /// Whether a guest that ran is started again when a later step fails.
    var isTemporary = false
    // The longest that an image may ask for, and the time to pull the plug.
    let deadline = Duration.seconds(3_600 + 120)
    let undoesOnCancel = false

    func run(_ state: inout CommandState, _ tools: OperationTools) async throws -> StepOutcome {
        // A guest whose processors stand still hears nothing.
        let isPaused = try await tools.driver.observe(state.instanceID)?.powerState == .paused
        let grace = isPaused ? .zero : ShutdownGrace.of(state.instance, default: grace)
        try await tools.driver.powerOff(state.instanceID, grace: grace)
        return .next
    }

    func undo(_ state: inout CommandState, _ tools: OperationTools) async throws {
        guard isTemporary, state.vmState == .active, state.isDismantled != true else { return }
        try await tools.driver.powerOn(state.instanceID)
    }
}

/// How long a guest may take to shut down.
enum ShutdownGrace {
    /// The image's `os_shutdown_timeout` in seconds, at most an hour; else the host's.
    static func of(_ instance: Instance, default grace: Duration) -> Duration {
        guard let text = instance.imageProperties?["os_shutdown_timeout"], let seconds = Int(text), seconds >= 0 else {
            return grace
        }
        return .seconds(min(seconds, 3_600))
    }
}

/// Asks the guest to reboot by itself. When it does not, or cannot be asked, the steps of a hard reboot follow.
struct AskGuestToReboot: GuestStep {
    let name = "ask_guest_to_reboot"
    let grace: Duration
    let taskState: TaskState? = .rebootStarted
    var deadline: Duration { grace + .seconds(120) }

    func run(_ state: inout CommandState, _ tools: OperationTools) async throws -> StepOutcome {
        do {
            return try await tools.driver.softReboot(state.instanceID, grace: grace) ? .finish : .next
        } catch let failure as Failure where failure.kind != .cancelled {
            return .next
        }
    }
}

/// Pulls the guest's plug.
struct ResetGuest: GuestStep {
    let name = "reset_guest"
    /// Whether a guest that ran is started again when the operation fails.
    var isTemporary = false
    var taskState: TaskState?
    let deadline = Duration.seconds(120)

    func run(_ state: inout CommandState, _ tools: OperationTools) async throws -> StepOutcome {
        try await tools.driver.powerOff(state.instanceID, grace: .zero)
        return .next
    }

    func undo(_ state: inout CommandState, _ tools: OperationTools) async throws {
        guard isTemporary, state.vmState == .active else { return }
        try await tools.driver.powerOn(state.instanceID)
    }
}

/// Makes the domain's definition afresh from the record.
struct RedefineDomain: GuestStep {
    let name = "redefine_domain"
    let deadline = Duration.seconds(60)

    func run(_ state: inout CommandState, _ tools: OperationTools) async throws -> StepOutcome {
        try await tools.define(try await tools.specification(state.instanceID))
        return .next
    }
}

/// Powers a defined guest on.
struct PowerOnGuest: GuestStep {
    let name = "power_on_guest"
    /// Whether the guest is powered off again when this step fails.
    var isUndone = false
    var taskState: TaskState?
    let deadline = Duration.seconds(120)

    func run(_ state: inout CommandState, _ tools: OperationTools) async throws -> StepOutcome {
        try await tools.driver.powerOn(state.instanceID)
        return .next
    }

    func undo(_ state: inout CommandState, _ tools: OperationTools) async throws {
        guard isUndone else { return }
        try await tools.driver.powerOff(state.instanceID, grace: .zero)
    }
}
