internal import FoundationEssentials
public import Model

/// How a task ended.
public enum TaskEnd: Sendable, Hashable {
    case succeeded
    /// Everything begun was undone, but for the row's `undoFailures`.
    case failed(Failure)
    case cancelled
}

/// A kind of task: its steps in order, and what follows its end.
public struct TaskDefinition<State: Codable & Sendable>: Sendable {
    public typealias Finished = @Sendable (inout State, TaskRow, TaskEnd) async throws -> Void

    public let kind: String
    public let steps: [any TaskStep<State>]
    let finished: Finished

    /// `finished` runs before the row is closed, is idempotent, and is retried until it succeeds.
    public init(kind: String, steps: [any TaskStep<State>], finished: @escaping Finished = { _, _, _ in }) {
        let names = steps.map(\.name)
        precondition(!steps.isEmpty, "a task without steps has nothing to do")
        precondition(
            Set(names).count == names.count && !names.contains(TaskRow.finishingStep),
            "the names of the steps of \(kind) must differ, and differ from the engine's own")
        (self.kind, self.steps, self.finished) = (kind, steps, finished)
    }
}

/// What the engine must know of a step without knowing its state's type.
struct StepPlan: Sendable {
    let name: String
    let deadline: Duration
    let retry: RetryPolicy
    let canCancel: Bool
}

/// What came of one attempt: the state as the step left it, and its result.
struct Attempt: Sendable {
    var state: [UInt8]
    var result: Result<StepOutcome, any Error>
}

/// A definition whose state is bytes.
protocol AnyTaskDefinition: Sendable {
    var kind: String { get }
    var plan: [StepPlan] { get }
    /// Throws when this program cannot read the state.
    func check(_ state: [UInt8]) throws
    func isDone(step: Int, _ state: [UInt8], _ context: StepContext) async throws -> Bool
    func run(step: Int, _ state: [UInt8], _ context: StepContext) async -> Attempt
    func undo(step: Int, _ state: [UInt8], _ context: StepContext) async -> Attempt
    func finish(_ state: [UInt8], _ row: TaskRow, _ end: TaskEnd) async -> Attempt
}

extension TaskDefinition: AnyTaskDefinition {
    var plan: [StepPlan] {
        steps.map { StepPlan(name: $0.name, deadline: $0.deadline, retry: $0.retry, canCancel: $0.canCancel) }
    }

    func check(_ state: [UInt8]) throws { _ = try decode(state) }

    func isDone(step: Int, _ state: [UInt8], _ context: StepContext) async throws -> Bool {
        try await steps[step].isDone(try decode(state), context)
    }

    func run(step: Int, _ state: [UInt8], _ context: StepContext) async -> Attempt {
        await attempt(state) { value in
            let step = steps[step]
            return try await step.isDone(value, context) ? .next : try await step.run(&value, context)
        }
    }

    func undo(step: Int, _ state: [UInt8], _ context: StepContext) async -> Attempt {
        await attempt(state) { value in
            try await steps[step].undo(&value, context)
            return .next
        }
    }

    func finish(_ state: [UInt8], _ row: TaskRow, _ end: TaskEnd) async -> Attempt {
        await attempt(state) { value in
            try await finished(&value, row, end)
            return .finish
        }
    }

    private func attempt(_ state: [UInt8], _ body: (inout State) async throws -> StepOutcome) async -> Attempt {
        var value: State
        do {
            value = try decode(state)
        } catch {
            return Attempt(state: state, result: .failure(error))
        }
        var result: Result<StepOutcome, any Error>
        do {
            result = .success(try await body(&value))
        } catch {
            result = .failure(error)
        }
        do {
            return Attempt(state: try StateCoding.encode(value), result: result)
        } catch {
            return Attempt(state: state, result: .failure(error))
        }
    }

    private func decode(_ state: [UInt8]) throws -> State {
        try JSONDecoder().decode(State.self, from: Data(state))
    }
}

/// The form of states in rows.
enum StateCoding {
    static func encode(_ value: some Encodable) throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        return Array(try encoder.encode(value))
    }
}
