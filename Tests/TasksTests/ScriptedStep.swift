import Model
import Synchronization
import Tasks

/// What a scripted task remembers.
struct Notes: Codable, Sendable, Equatable {
    var entries: [String] = []
}

/// A step made of closures.
struct ScriptedStep: TaskStep {
    typealias Work = @Sendable (inout Notes, StepContext) async throws -> StepOutcome
    typealias Undo = @Sendable (inout Notes, StepContext) async throws -> Void

    let name: String
    var deadline = Duration.seconds(60)
    var retry = RetryPolicy.none
    var canCancel = true
    var isDone: @Sendable (Notes) -> Bool = { _ in false }
    var work: Work = { _, _ in .next }
    var takeBack: Undo = { _, _ in }

    func isDone(_ state: Notes, _ context: StepContext) async throws -> Bool { isDone(state) }
    func run(_ state: inout Notes, _ context: StepContext) async throws -> StepOutcome {
        try await work(&state, context)
    }
    func undo(_ state: inout Notes, _ context: StepContext) async throws { try await takeBack(&state, context) }
}

/// Lines that steps write, in the order written.
final class Recorder: Sendable {
    private let lines = Mutex<[String]>([])

    var all: [String] { lines.withLock { $0 } }

    func note(_ line: String) { lines.withLock { $0.append(line) } }

    /// Returns once `line` was written.
    func wait(for line: String) async {
        while !all.contains(line) { await Task.yield() }
    }

    /// A step that writes `run NAME` and `undo NAME`, then does what `then` says.
    func step(_ name: String, then outcome: StepOutcome = .next) -> ScriptedStep {
        ScriptedStep(
            name: name,
            work: { notes, _ in
                self.note("run \(name)")
                notes.entries.append(name)
                return outcome
            },
            takeBack: { _, _ in self.note("undo \(name)") })
    }

    func failing(_ name: String, _ failure: Failure, retry: RetryPolicy = .none) -> ScriptedStep {
        var step = step(name)
        step.retry = retry
        step.work = { _, _ in
            self.note("run \(name)")
            throw failure
        }
        return step
    }

    /// A definition that writes how it ends.
    func definition(_ steps: [ScriptedStep], kind: String = "build") -> TaskDefinition<Notes> {
        TaskDefinition(kind: kind, steps: steps) { _, _, end in
            switch end {
            case .succeeded: self.note("end succeeded")
            case .failed(let failure): self.note("end failed \(failure.kind.rawValue)")
            case .cancelled: self.note("end cancelled")
            }
        }
    }
}

/// A gate that a step waits at, deaf or not to its cancellation.
final class Gate: Sendable {
    private let state = Mutex<(isOpen: Bool, waiters: [CheckedContinuation<Void, Never>])>((false, []))

    func open() {
        let waiters = state.withLock { state in
            state.isOpen = true
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.resume() }
    }

    func pass() async {
        await withCheckedContinuation { continuation in
            let isOpen = state.withLock { state in
                if !state.isOpen { state.waiters.append(continuation) }
                return state.isOpen
            }
            if isOpen { continuation.resume() }
        }
    }

    /// Throws `CancellationError` when the Swift task is cancelled first.
    func passUnlessCancelled() async throws {
        await withTaskCancellationHandler {
            await pass()
        } onCancel: {
            open()
        }
        try Task.checkCancellation()
    }
}
