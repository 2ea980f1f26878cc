internal import SQL
internal import Synchronization

/// One write that waits for its transaction, whatever its result's type.
protocol QueuedWrite: AnyObject, Sendable {
    var isSettled: Bool { get }
    /// Runs the body; the result is kept but not yet given out.
    func perform(on connection: SQLiteConnection)
    /// Ends the write: with what `perform` left behind, or with `error` when its transaction was lost.
    func settle(_ error: (any Error)?)
    /// What the body threw, after `perform`.
    var thrown: (any Error)? { get }
}

final class Write<T: Sendable>: QueuedWrite {
    private enum State {
        case waiting
        case performed(Result<T, any Error>)
        case settled(Result<T, any Error>)
    }

    private let body: @Sendable (SQLConnection) throws -> T
    private let state = Mutex<State>(.waiting)

    init(_ body: @escaping @Sendable (SQLConnection) throws -> T) { self.body = body }

    var isSettled: Bool {
        state.withLock { if case .settled = $0 { true } else { false } }
    }

    var thrown: (any Error)? {
        state.withLock { if case .performed(.failure(let error)) = $0 { error } else { nil } }
    }

    func perform(on connection: SQLiteConnection) {
        let result = Result { try body(SQLConnection(connection)) }
        state.withLock { $0 = .performed(result) }
    }

    func settle(_ error: (any Error)?) {
        state.withLock { state in
            if let error {
                state = .settled(.failure(error))
            } else if case .performed(let result) = state {
                state = .settled(result)
            }
        }
    }

    /// The result; only after the write was settled.
    func value() throws -> T {
        try state.withLock { state in
            guard case .settled(let result) = state else {
                throw SQLError(.misuse, "a write was asked for its result before it ran")
            }
            return try result.get()
        }
    }
}

/// The writes that wait, in the order they came. Bounded.
final class WriteQueue: Sendable {
    static let limit = 10_000
    /// Writes that share one commit; more would let the first of them wait too long.
    static let groupLimit = 512

    private let waiting = Mutex<(writes: [any QueuedWrite], isClosed: Bool)>(([], false))

    /// Adds a write and gives the queue's length.
    func append(_ write: any QueuedWrite) throws(SQLError) -> Int {
        try waiting.withLock { (queue) throws(SQLError) in
            guard !queue.isClosed else { throw SQLError(.closed, "the database is closed") }
            guard queue.writes.count < Self.limit else {
                throw SQLError(.queueFull(limit: Self.limit), "\(Self.limit) writes wait already")
            }
            queue.writes.append(write)
            return queue.writes.count
        }
    }

    var count: Int { waiting.withLock { $0.writes.count } }

    /// Puts writes back to the front, in their order.
    func putBack(_ writes: some Collection<any QueuedWrite>) {
        waiting.withLock { $0.writes.insert(contentsOf: writes, at: 0) }
    }

    func takeGroup() -> (writes: [any QueuedWrite], left: Int) {
        waiting.withLock { queue in
            let group = Array(queue.writes.prefix(Self.groupLimit))
            queue.writes.removeFirst(group.count)
            return (group, queue.writes.count)
        }
    }

    /// Refuses further writes; those that wait still run.
    func close() { waiting.withLock { $0.isClosed = true } }
}
