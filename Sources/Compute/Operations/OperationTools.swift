internal import Model
internal import RPC
internal import Tasks
internal import Telemetry

/// What the steps of operations work with.
struct OperationTools: Sendable {
    let driver: any VirtDriver
    let images: any ImageFetching
    let now: Now
    let shutdownGrace: Duration
    let rebootGrace: Duration
    /// Tells the conductor, when there is time for it, what an operation is at. Waits for nobody.
    let progress: @Sendable (InstanceID, TaskState) async -> Void
    /// The guest's record in the journal.
    let guest: @Sendable (InstanceID) async throws -> GuestRecord?
}

/// Brings an image's bytes to the host.
protocol ImageFetching: Sendable {
    /// Gives the image's bytes to `write`, in order. Throws `Failure`, retriable when a later try may succeed.
    func fetch(
        _ image: ImageReference, for instance: InstanceID,
        _ write: @escaping @Sendable ([UInt8]) async throws -> Void
    ) async throws
}

/// What the states of all operations share.
protocol OperationState: Codable, Sendable {
    var instanceID: InstanceID { get }
    var timings: [ReportOperation.StepTiming] { get set }
    /// Drops what no record may hold once it cannot be used any more.
    mutating func forgetSecrets()
}

extension OperationState {
    mutating func forgetSecrets() {}
}

/// A step of an operation on a guest; `Timed` makes a task's step of it.
protocol GuestStep<State>: Sendable {
    associatedtype State: OperationState
    var name: String { get }
    var deadline: Duration { get }
    var retry: RetryPolicy { get }
    /// What clients see while the step runs; `nil` leaves what they see.
    var taskState: TaskState? { get }
    func run(_ state: inout State, _ tools: OperationTools) async throws -> StepOutcome
    /// Takes back what `run` made; safe when it never ran.
    func undo(_ state: inout State, _ tools: OperationTools) async throws
}

extension GuestStep {
    var retry: RetryPolicy { .none }
    var taskState: TaskState? { nil }
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
        if let taskState = step.taskState { await tools.progress(state.instanceID, taskState) }
        let start = ContinuousClock.now
        defer {
            let length = (ContinuousClock.now - start).inSeconds * 1_000
            state.timings.append(.init(name: step.name, milliseconds: length))
        }
        return try await step.run(&state, tools)
    }

    func undo(_ state: inout Step.State, _ context: StepContext) async throws {
        state.forgetSecrets()
        do {
            try await step.undo(&state, tools)
        } catch let failure as Failure where failure.kind == .conflict {
            // What has our guest's name but is not ours was not made by this step.
        }
    }
}

extension OperationTools {
    /// Throws unless the guest is surely off: before anything that it could still use is taken away.
    func requireOff(_ id: InstanceID) async throws {
        guard let seen = try await driver.observe(id), seen.isOurs else { return }
        switch seen.powerState {
        case .shutdown, .crashed: return
        case .noState, .running, .paused, .suspended:
            throw Failure(.hypervisor, "the guest \(seen.name) is not off", isRetriable: true)
        }
    }
}
