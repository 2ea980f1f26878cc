internal import Synchronization
internal import Telemetry

/// Lets a bounded number of blocking calls run at a time, each with a deadline.
///
/// A call over its deadline is given up by its caller, but its thread cannot be taken back. The call then counts as
/// stuck, and up to `stuckLimit` stuck calls another thread takes the place, so that one hung guest does not use the
/// gate up.
final class CallGate: Sendable {
    /// Numbers a call from its admission until its thread has come back.
    private typealias Ticket = UInt64
    private typealias Admission = OneShot<Result<Ticket, LibvirtError>>

    private enum Progress {
        case running
        case stuck(isReplaced: Bool)
    }

    private struct State {
        var free: Int
        var waiting: [(ticket: Ticket, admission: Admission)] = []
        var admitted: [Ticket: Progress] = [:]
        var lastTicket: Ticket = 0
        var stuck = 0
        var isClosed = false
        var onDrained: [OneShot<Void>] = []

        /// Gives a permit back, or on to the call that waits longest, which is then returned.
        mutating func freeOne() -> (ticket: Ticket, admission: Admission)? {
            guard !waiting.isEmpty else {
                free += 1
                return nil
            }
            let next = waiting.removeFirst()
            admitted[next.ticket] = .running
            return next
        }
    }

    private static let waitingLimit = 4_096

    let executor: BlockingExecutor
    private let name: String
    private let stuckLimit: Int
    private let state: Mutex<State>

    /// - Parameter name: of the threads and in the metrics.
    init(name: String, threads: Int, stuckLimit: Int) {
        self.name = name
        self.stuckLimit = stuckLimit
        // One more for closing the connection while all others are stuck.
        executor = BlockingExecutor(name: name, threads: threads + stuckLimit + 1)
        state = Mutex(State(free: threads))
    }

    /// Calls whose deadline has passed and whose thread has not come back.
    var stuckCalls: Int { state.withLock { $0.stuck } }

    /// Runs `body` on a thread of the gate; `deadline` counts from now, waiting for a thread included.
    func run<T: Sendable>(
        _ call: String, deadline: Duration, _ body: @escaping @Sendable () -> Result<T, LibvirtError>
    ) async throws(LibvirtError) -> T {
        let start = ContinuousClock.now
        let outcome = await admittedRun(call, deadline: deadline, start: start, body)
        switch outcome {
        case .success(let value):
            LibvirtMetrics.record(call, nil, since: start)
            return value
        case .failure(let error):
            LibvirtMetrics.record(call, error, since: start)
            throw error
        }
    }

    private func admittedRun<T: Sendable>(
        _ call: String, deadline: Duration, start: ContinuousClock.Instant,
        _ body: @escaping @Sendable () -> Result<T, LibvirtError>
    ) async -> Result<T, LibvirtError> {
        let ticket: Ticket
        switch await admission(call, until: start + deadline) {
        case .success(let admitted): ticket = admitted
        case .failure(let error): return .failure(error)
        }
        let outcome = OneShot<Result<T, LibvirtError>>()
        Task {
            let result = await executor.run(body)
            finish(ticket)
            outcome.fulfil(result)
        }
        let watchdog = Task {
            do { try await AlarmClock().sleep(until: start + deadline) } catch { return }
            guard markStuck(ticket) else { return }
            outcome.fulfil(.failure(Self.timeoutError(call, "no answer within \(deadline)")))
        }
        defer { watchdog.cancel() }
        return await outcome.value
    }

    /// Ends admission: waiting and later calls fail with `connectionLost`.
    func close() {
        let refused = state.withLock { state in
            state.isClosed = true
            defer { state.waiting = [] }
            return state.waiting
        }
        for waiter in refused { waiter.admission.fulfil(.failure(Self.closedError)) }
    }

    /// Returns when no call runs any more, stuck ones included. Meant to follow `close()`.
    func drained() async {
        let signal = OneShot<Void>()
        let isDrained = state.withLock { state -> Bool in
            if state.admitted.isEmpty { return true }
            state.onDrained.append(signal)
            return false
        }
        if !isDrained { await signal.value }
    }

    // MARK: - Admission

    private func admission(
        _ call: String, until deadline: ContinuousClock.Instant
    ) async -> Result<Ticket, LibvirtError> {
        if Task.isCancelled { return .failure(Self.cancelledError(call)) }
        let admission = Admission()
        let ticket = state.withLock { state in
            state.lastTicket += 1
            if state.isClosed {
                admission.fulfil(.failure(Self.closedError))
            } else if state.free > 0 {
                state.free -= 1
                state.admitted[state.lastTicket] = .running
                admission.fulfil(.success(state.lastTicket))
            } else if state.waiting.count < Self.waitingLimit {
                state.waiting.append((state.lastTicket, admission))
            } else {
                let text = "\(Self.waitingLimit) calls wait already"
                admission.fulfil(.failure(LibvirtError(.overloaded, call: call, message: text)))
            }
            return state.lastTicket
        }
        if let decided = admission.fulfilled { return decided }
        let watchdog = Task {
            do { try await AlarmClock().sleep(until: deadline) } catch { return }
            withdraw(ticket, Self.timeoutError(call, "no thread came free before the deadline"))
        }
        defer { watchdog.cancel() }
        return await withTaskCancellationHandler {
            await admission.value
        } onCancel: {
            withdraw(ticket, Self.cancelledError(call))
        }
    }

    private func withdraw(_ ticket: Ticket, _ error: LibvirtError) {
        let admission = state.withLock { state -> Admission? in
            guard let index = state.waiting.firstIndex(where: { $0.ticket == ticket }) else { return nil }
            return state.waiting.remove(at: index).admission
        }
        admission?.fulfil(.failure(error))
    }

    /// Whether the call still ran, and so is stuck from now on.
    private func markStuck(_ ticket: Ticket) -> Bool {
        let (isStuck, next) = state.withLock { state -> (Bool, (ticket: Ticket, admission: Admission)?) in
            guard case .running = state.admitted[ticket] else { return (false, nil) }
            let isReplaced = state.stuck < stuckLimit
            state.admitted[ticket] = .stuck(isReplaced: isReplaced)
            state.stuck += 1
            return (true, isReplaced ? state.freeOne() : nil)
        }
        if let next { next.admission.fulfil(.success(next.ticket)) }
        if isStuck { LibvirtMetrics.stuck.add(1, labels: [("connection", name)]) }
        return isStuck
    }

    private func finish(_ ticket: Ticket) {
        typealias Effects = (
            wasStuck: Bool, next: (ticket: Ticket, admission: Admission)?, drained: [OneShot<Void>]
        )
        let effects = state.withLock { state -> Effects in
            var effects: Effects = (false, nil, [])
            switch state.admitted.removeValue(forKey: ticket) {
            case .stuck(let isReplaced):
                effects.wasStuck = true
                state.stuck -= 1
                if !isReplaced { effects.next = state.freeOne() }
            case .running, nil:
                effects.next = state.freeOne()
            }
            if state.admitted.isEmpty { swap(&effects.drained, &state.onDrained) }
            return effects
        }
        if let next = effects.next { next.admission.fulfil(.success(next.ticket)) }
        if effects.wasStuck { LibvirtMetrics.stuck.add(-1, labels: [("connection", name)]) }
        for signal in effects.drained { signal.fulfil(()) }
    }

    private static let closedError = LibvirtError(.connectionLost, call: "open", message: "the connection is closed")

    private static func cancelledError(_ call: String) -> LibvirtError {
        LibvirtError(.cancelled, call: call, message: "cancelled before the call began")
    }

    private static func timeoutError(_ call: String, _ message: String) -> LibvirtError {
        LibvirtError(.operationTimeout, call: call, message: message)
    }
}
