public import Model
public import Telemetry

/// What follows when a step's `run` returned.
public enum StepOutcome: Sendable, Hashable {
    case next
    /// Run this step again after a signal, at `until`, or fail at its deadline. A wake-up may come without reason: `run`
    /// looks again.
    case wait(until: Timestamp?)
    /// Go on with the step of this name, before or after this one.
    case jump(String)
    /// Skip what is left; the task has succeeded.
    case finish
}

/// What a step may know of its task.
public struct StepContext: Sendable {
    /// The task as of this step's beginning: id, fence, request id, attempts.
    public let row: TaskRow
    public let now: Now
    private let cancelCheck: @Sendable () -> Bool

    public init(row: TaskRow, now: @escaping Now, isCancelRequested: @escaping @Sendable () -> Bool) {
        (self.row, self.now, cancelCheck) = (row, now, isCancelRequested)
    }

    /// Whether a user has asked for cancellation by now.
    public var isCancelRequested: Bool { cancelCheck() }
}

/// One named step of a task. It may be begun again after a crash at any point: `run` is idempotent, or `isDone` sees
/// that its work is done.
public protocol TaskStep<State>: Sendable {
    associatedtype State: Codable & Sendable

    /// Unique within the definition, lasting across releases: rows hold it. Not `finished`.
    var name: String { get }

    /// How long the step may take, its attempts and waits included. Time in which no engine ran does not count.
    var deadline: Duration { get }

    var retry: RetryPolicy { get }

    /// Whether a cancellation may interrupt the step, or stop the task before it. Default true.
    var canCancel: Bool { get }

    /// Whether the step's work is done already; asked before each `run`. Default false.
    func isDone(_ state: State, _ context: StepContext) async throws -> Bool

    /// Does the work. What it writes to `state` is kept, even when it throws.
    ///
    /// A `Failure` with `isRetriable` is tried again as `retry` says; any other error undoes the task.
    func run(_ state: inout State, _ context: StepContext) async throws -> StepOutcome

    /// Takes the work back; safe when `run` never ran, or ran in part. Default: nothing to take back.
    func undo(_ state: inout State, _ context: StepContext) async throws
}

extension TaskStep {
    public var retry: RetryPolicy { .none }
    public var canCancel: Bool { true }
    public func isDone(_ state: State, _ context: StepContext) async throws -> Bool { false }
    public func undo(_ state: inout State, _ context: StepContext) async throws {}
}
