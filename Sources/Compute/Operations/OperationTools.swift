internal import Model
internal import RPC
internal import Tasks
internal import Telemetry

/// What the steps of operations work with.
struct OperationTools: Sendable {
    let driver: any VirtDriver
    let images: any ImageFetching
    let uploads: any ImageUploading
    let now: Now
    let shutdownGrace: Duration
    let rebootGrace: Duration
    /// Tells the conductor, when there is time for it, what an operation is at. Waits for nobody.
    let progress: @Sendable (InstanceID, TaskState) async -> Void
    /// Tells also how far the operation is, in percent.
    let share: @Sendable (InstanceID, TaskState, Int) async -> Void
    /// The guest's record in the journal.
    let guest: @Sendable (InstanceID) async throws -> GuestRecord?
    /// Changes what the journal says that a guest is made of, and gives what it says then; `nil` for a guest without
    /// record.
    let changeGuest:
        @Sendable (InstanceID, @escaping @Sendable (inout GuestSpecification) -> Void) async throws ->
            GuestSpecification?
    /// Returns when the conductor knows what is claimed now, or has not taken it within a time.
    let claimsAreReported: @Sendable () async -> Void
    /// The files of an instance that another host has set aside for a migration.
    let moved: @Sendable (MoveSource, MigrationID, InstanceID) -> any MovedFiles
    /// What this host keeps of an instance that is being moved.
    let setAside: @Sendable (InstanceID) async throws -> SetAsideRecord?
    /// Tells the conductor how far a migration is. Waits for nobody for long.
    let tellProgress: @Sendable (InstanceID, MigrationID, MigrationProgress, _ isPostCopy: Bool) async -> Void
    let live: LiveTools
}

/// What live migrations need besides.
struct LiveTools: Sendable {
    let gates: LiveGates
    let door: LiveDoor
    let peer: @Sendable (MoveSource, MigrationID, InstanceID) -> any LivePeer
}

/// What an image's bytes are for, which gives the right to them.
enum ImageUse: Sendable, Hashable {
    /// A disk of this instance.
    case instance(InstanceID)
    /// The cache, as this task of a conductor wants it.
    case cache(TaskID)
}

/// Brings an image's bytes to the host.
protocol ImageFetching: Sendable {
    /// Gives the image's bytes from `offset` on to `write`, in order. Throws `Failure`, retriable when a later try may succeed.
    func fetch(
        _ image: ImageReference, for use: ImageUse, from offset: Int64,
        _ write: @escaping @Sendable ([UInt8]) async throws -> Void
    ) async throws
}

/// Brings the copy of a root disk into the image service.
protocol ImageUploading: Sendable {
    /// Uploads `length` bytes, which `read` gives from an offset, up to a count. Nothing when the image has just these
    /// bytes already. `progress` is told how many have gone. Throws `Failure`, retriable when a later try, which begins
    /// anew, may succeed; `.notFound` when the image is gone.
    func upload(
        _ image: ImageID, of instance: InstanceID, length: Int64,
        read: @escaping @Sendable (Int64, Int) async throws -> [UInt8],
        progress: @escaping @Sendable (Int64) async -> Void
    ) async throws
}

/// What the states of all operations share.
protocol OperationState: Codable, Sendable {
    var instanceID: InstanceID { get }
    var timings: [ReportOperation.StepTiming] { get set }
    /// Drops what no record may hold once it cannot be used any more.
    mutating func forgetSecrets()
    /// The same before what was made is taken back: what only that needs stays.
    mutating func forgetSpentSecrets()
}

extension OperationState {
    mutating func forgetSecrets() {}
    mutating func forgetSpentSecrets() { forgetSecrets() }
}

/// A step of an operation on a guest; `Timed` makes a task's step of it.
protocol GuestStep<State>: Sendable {
    associatedtype State: OperationState
    var name: String { get }
    var deadline: Duration { get }
    var retry: RetryPolicy { get }
    /// What clients see while the step runs; `nil` leaves what they see.
    var taskState: TaskState? { get }
    /// The same where it depends on what the operation is for.
    func taskState(in state: State) -> TaskState?
    func run(_ state: inout State, _ tools: OperationTools) async throws -> StepOutcome
    /// Whether the undo is worth its time when a later command has taken the operation's place.
    var undoesOnCancel: Bool { get }
    /// Takes back what `run` made; safe when it never ran.
    func undo(_ state: inout State, _ tools: OperationTools) async throws
}

extension GuestStep {
    var retry: RetryPolicy { .none }
    var taskState: TaskState? { nil }
    var undoesOnCancel: Bool { true }
    func taskState(in state: State) -> TaskState? { taskState }
    func undo(_ state: inout State, _ tools: OperationTools) async throws {}
}

/// Runs a guest's step as a task's and notes how long it took.
struct Timed<Step: GuestStep>: TaskStep {
    let step: Step
    let tools: OperationTools

    var name: String { step.name }
    var deadline: Duration { step.deadline }
    var retry: RetryPolicy { step.retry }

    func run(_ state: inout Step.State, _ context: StepContext) async throws -> StepOutcome {
        if let taskState = step.taskState(in: state) { await tools.progress(state.instanceID, taskState) }
        let start = ContinuousClock.now
        defer {
            let length = (ContinuousClock.now - start).inSeconds * 1_000
            state.timings.append(.init(name: step.name, milliseconds: length))
        }
        let outcome = try await step.run(&state, tools)
        #if FaultInjection
            try FaultInjection.armed()?.failIfAsked(kind: context.row.kind, step: step.name)
        #endif
        return outcome
    }

    func undo(_ state: inout Step.State, _ context: StepContext) async throws {
        state.forgetSpentSecrets()
        if context.row.isCancelRequested, !step.undoesOnCancel { return }
        do {
            try await step.undo(&state, tools)
        } catch let failure as Failure where failure.kind == .conflict {
            // What has our guest's name but is not ours was not made by this step.
        }
    }
}

extension OperationTools {
    /// What the guest is made of.
    func specification(_ id: InstanceID) async throws -> GuestSpecification {
        guard let guest = try await guest(id) else { throw Self.notHere(id) }
        return guest.specification
    }

    /// Changes what the guest is made of, durably.
    @discardableResult
    func change(
        _ id: InstanceID, _ body: @escaping @Sendable (inout GuestSpecification) -> Void
    ) async throws -> GuestSpecification {
        guard let changed = try await changeGuest(id, body) else { throw Self.notHere(id) }
        return changed
    }

    /// Defines the guest's domain, with its shares of the host's devices there: the start that follows wants them.
    func define(_ guest: GuestSpecification) async throws {
        try await createMediatedDevices(of: guest)
        try await driver.define(guest)
    }

    /// Makes the guest's mediated devices, which a boot of the host has taken away.
    func createMediatedDevices(of guest: GuestSpecification?) async throws {
        guard let devices = guest?.mediatedDevices, !devices.isEmpty else { return }
        try await driver.createMediatedDevices(devices)
    }

    func removeMediatedDevices(of guest: GuestSpecification?) async throws {
        guard let devices = guest?.mediatedDevices, !devices.isEmpty else { return }
        try await driver.removeMediatedDevices(devices)
    }

    private static func notHere(_ id: InstanceID) -> Failure {
        Failure(.notFound, "instance \(id) is not on this host")
    }

    /// Turns the guest off at once; one that is off, or not there, stays so.
    func pullPlug(_ id: InstanceID) async throws {
        do {
            try await driver.powerOff(id, grace: .zero)
        } catch let failure as Failure where failure.kind == .conflict {
            // A domain of that name which is not ours stays; what is ours still goes.
        }
    }

    /// Throws unless the guest is surely off: before anything that it could still use is taken away.
    func requireOff(_ id: InstanceID) async throws {
        guard let seen = try await driver.observe(id), seen.isOurs, seen.isOn else { return }
        throw Failure(.hypervisor, "the guest \(seen.name) is not off", isRetriable: true)
    }
}
