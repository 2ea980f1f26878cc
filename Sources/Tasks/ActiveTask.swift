internal import Model
internal import Synchronization

/// A task that this engine has: how to interrupt it, and how to learn that it is given up.
final class ActiveTask: Sendable {
    enum Interruption: Sendable { case none, cancel, leaseLost }

    private struct State {
        var interruption = Interruption.none
        var leaseUntil: Timestamp
        var interrupt: (@Sendable () -> Void)?
        var isCancellable = false
        /// The step whose `run` is under way.
        var step: String?
        var isEnded = false
        var waiters: [CheckedContinuation<Void, Never>] = []
    }

    let id: TaskID
    let kind: String
    private let state: Mutex<State>

    init(id: TaskID, kind: String, leaseUntil: Timestamp) {
        (self.id, self.kind) = (id, kind)
        state = Mutex(State(leaseUntil: leaseUntil))
    }

    var leaseUntil: Timestamp {
        get { state.withLock { $0.leaseUntil } }
        set { state.withLock { $0.leaseUntil = max($0.leaseUntil, newValue) } }
    }

    var isLost: Bool { state.withLock { $0.interruption == .leaseLost } }

    /// Whether cancellation was asked for while the task is here.
    var isCancelRequested: Bool { state.withLock { $0.interruption == .cancel } }

    /// Registers how to interrupt the attempt under way; at once if the reason is there already.
    func attemptBegan(step: String?, isCancellable: Bool, interrupt: @escaping @Sendable () -> Void) {
        let isOver = state.withLock { state in
            (state.interrupt, state.isCancellable, state.step) = (interrupt, isCancellable, step)
            return state.interruption == .leaseLost || (state.interruption == .cancel && isCancellable)
        }
        if isOver { interrupt() }
    }

    func attemptEnded() { state.withLock { ($0.interrupt, $0.step) = (nil, nil) } }

    /// Cancels the task if the `run` of one of `steps` is under way; `nil` when no step's is.
    func cancel(during steps: Set<String>) -> Bool? {
        let (answer, interrupt) = state.withLock { state -> (Bool?, (@Sendable () -> Void)?) in
            guard let step = state.step, state.interruption != .leaseLost else { return (nil, nil) }
            guard steps.contains(step), state.isCancellable else { return (false, nil) }
            state.interruption = .cancel
            return (true, state.interrupt)
        }
        interrupt?()
        return answer
    }

    /// The attempt under way is interrupted: always when the lease is lost, else where the step admits cancellation.
    func interrupt(_ reason: Interruption) {
        let interrupt = state.withLock { state -> (@Sendable () -> Void)? in
            if state.interruption != .leaseLost { state.interruption = reason }
            return reason == .leaseLost || state.isCancellable ? state.interrupt : nil
        }
        interrupt?()
    }

    func end() {
        let waiters = state.withLock { state in
            state.isEnded = true
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.resume() }
    }

    /// Returns once the task is no longer worked on here.
    func ended() async {
        await withCheckedContinuation { continuation in
            let isEnded = state.withLock { state in
                if !state.isEnded { state.waiters.append(continuation) }
                return state.isEnded
            }
            if isEnded { continuation.resume() }
        }
    }
}
