public import Model

/// Where tasks are kept. Every change is durable when the call returns, and atomic.
public protocol TaskStorage: Sendable {
    /// Adds a task; throws `TaskError.duplicate` when its id is taken.
    func insert(_ row: TaskRow) async throws

    /// Adds all of them or none; throws `TaskError.duplicate` when one's id is taken.
    func insert(_ rows: [TaskRow]) async throws

    /// Takes up to `limit` tasks whose `runnableAt` has come, longest due first, for `owner` until `until`.
    ///
    /// A task that another owner had, and lost, comes with its epoch raised by one. `wakeAt` stays as it was. Pending
    /// and waiting tasks become running.
    func lease(
        kinds: Set<String>, owner: String, until: Timestamp, now: Timestamp, limit: Int
    ) async throws -> [TaskRow]

    /// The same for one task; `nil` when it is not runnable now.
    func lease(id: TaskID, owner: String, until: Timestamp, now: Timestamp) async throws -> TaskRow?

    /// Stores a task that `row.owner` has; throws `TaskError.leaseLost` unless owner and epoch still match.
    ///
    /// A row without `leaseUntil` is given up: it has no owner afterwards. The stored cancellation flag stays set, and the
    /// stored count of signals is kept; a waiting row that has received either since it was taken is runnable at once.
    func save(_ row: TaskRow) async throws

    /// Prolongs leases and gives the ids that `owner` still has.
    func renew(ids: [TaskID], owner: String, until: Timestamp) async throws -> Set<TaskID>

    /// Ends every lease of `owner`: what an earlier process of the same name left is then taken over at once.
    func expireLeases(owner: String, now: Timestamp) async throws

    /// Says that `owner` lives, for as long as this process does; `false` while another process still has the name.
    /// Again and again: who was taken for dead is known again then.
    func announce(_ owner: String) async throws -> Bool

    /// Takes back what `announce` has said of the name, of a process that has ended or is about to.
    func withdraw(_ owner: String) async throws

    /// Those that have announced themselves and were not withdrawn, other than `owner`, and whether each lives.
    func owners(besides owner: String) async throws -> [String: Bool]

    func find(_ id: TaskID) async throws -> TaskRow?

    /// Tasks, newest first; of one instance if it is given, and only those that follow the task `marker` in that order.
    /// Throws `TaskError.notFound` when there is no such task.
    func list(instance: InstanceID?, unfinishedOnly: Bool, limit: Int, after marker: TaskID?) async throws -> [TaskRow]

    /// The tasks that name `parent` as theirs, oldest first.
    func children(of parent: TaskID) async throws -> [TaskRow]

    /// Makes a task that waits, or whose undo waits, for its next attempt runnable at once, as if it had not failed yet.
    /// `false` when nobody but its owner may touch it now, or it is finished. Throws `TaskError.notFound`.
    func hasten(_ id: TaskID, now: Timestamp) async throws -> Bool

    /// Makes a waiting task runnable at once; remembered when the task is running. Nothing happens to a finished one.
    /// Throws `TaskError.notFound`.
    func signal(_ id: TaskID, now: Timestamp) async throws

    /// Asks for cancellation; a pending or waiting task becomes runnable at once. Nothing happens to a finished one.
    /// Throws `TaskError.notFound`.
    func requestCancel(_ id: TaskID, now: Timestamp) async throws

    /// Those of `ids` whose cancellation was asked for.
    func cancelRequested(among ids: [TaskID]) async throws -> Set<TaskID>

    /// When the next task of these kinds becomes runnable, past or future.
    func nextWake(kinds: Set<String>) async throws -> Timestamp?

    /// Removes tasks that finished before; gives their number.
    func trim(finishedBefore: Timestamp) async throws -> Int
}

extension TaskStorage {
    /// True: a storage of one process has one owner.
    public func announce(_ owner: String) async throws -> Bool { true }

    /// Nothing: a storage of one process has one owner.
    public func withdraw(_ owner: String) async throws {}

    /// None: a storage of one process has no others.
    public func owners(besides owner: String) async throws -> [String: Bool] { [:] }

    /// The first page of the list.
    public func list(instance: InstanceID?, unfinishedOnly: Bool, limit: Int) async throws -> [TaskRow] {
        try await list(instance: instance, unfinishedOnly: unfinishedOnly, limit: limit, after: nil)
    }
}

extension TaskRow {
    /// Marks the row as taken; the caller has checked that it is runnable.
    mutating func take(owner: String, until: Timestamp, now: Timestamp) {
        if self.owner != nil { epoch += 1 }
        if status == .pending || status == .waiting { status = .running }
        (self.owner, leaseUntil, updatedAt) = (owner, until, now)
    }
}
