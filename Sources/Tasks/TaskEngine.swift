internal import FoundationEssentials
public import Model
internal import Synchronization
public import Telemetry

/// Runs durable tasks: leases them from a storage, carries each through its steps, and records every result before the
/// next step begins.
///
/// Several engines may share a storage; each has an owner name of its own. When one dies the others take over its tasks
/// at the recorded step once the leases end.
public final class TaskEngine: Sendable {
    struct State {
        var definitions: [String: any AnyTaskDefinition] = [:]
        var active: [TaskID: ActiveTask] = [:]
        var isRunning = false
        var isStopping = false
        var idleWaiters: [CheckedContinuation<Void, Never>] = []
        var stopWaiter: CheckedContinuation<Void, Never>?
        var hook: (@Sendable (TaskHook) -> Void)?
        var generator: any RandomNumberGenerator & Sendable
    }

    /// Tasks of one kind at a time where `limits` does not say.
    public static let defaultLimit = 64

    let storage: any TaskStorage
    let owner: String
    let limits: [String: Int]
    let lease: Duration
    let poll: Duration
    let watch: Duration?
    /// Attempts of one step's undo before it is given up and recorded.
    let undoAttempts: Int
    let now: Now
    let clock: any Clock<Duration>
    let signalled = WakeSignal()
    let state: Mutex<State>
    let metrics = TaskMetrics()
    let log = Logger("tasks")

    /// - Parameters:
    ///   - owner: unique among the engines alive; the same again after a restart.
    ///   - limits: per kind, how many tasks run at a time; the others wait in the storage.
    ///   - lease: how long after its death an engine's tasks stay untouched; renewed at a third of it.
    ///   - poll: how often to look for tasks that somebody inserted without `wake`.
    ///   - watch: how often to look whether other engines on the storage have died; `nil` where there are none.
    ///   - generator: the source of jitter.
    public init(
        storage: any TaskStorage, owner: String, limits: [String: Int] = [:], lease: Duration = .seconds(15),
        poll: Duration = .seconds(1), watch: Duration? = nil, undoAttempts: Int = 8, now: @escaping Now = WallClock.now,
        clock: any Clock<Duration> = AlarmClock(),
        generator: any RandomNumberGenerator & Sendable = SystemRandomNumberGenerator()
    ) {
        (self.storage, self.owner, self.limits) = (storage, owner, limits)
        (self.lease, self.poll, self.watch, self.undoAttempts) = (lease, poll, watch, max(1, undoAttempts))
        (self.now, self.clock) = (now, clock)
        state = Mutex(State(generator: generator))
    }

    /// Called before and after each step and each save; for tests that kill the process there.
    public var hooks: (@Sendable (TaskHook) -> Void)? {
        get { state.withLock { $0.hook } }
        set { state.withLock { $0.hook = newValue } }
    }

    /// Makes a kind of task known; tasks of unknown kinds are left to other engines.
    public func register<S>(_ definition: TaskDefinition<S>) {
        state.withLock { $0.definitions[definition.kind] = definition }
        wake()
    }

    /// The names of the steps of each kind that is registered, in order.
    public var stepNames: [String: [String]] {
        state.withLock { $0.definitions.mapValues { $0.plan.map(\.name) } }
    }

    /// An id for a new task.
    public static func makeID() -> String { UUID().uuidString.lowercased() }

    /// A row for a new task.
    public static func makeRow<S: Codable & Sendable>(
        kind: String, instance: InstanceID? = nil, parent: TaskID? = nil, requestID: RequestID, generation: Int64 = 0,
        state: S, now: Timestamp
    ) throws -> TaskRow {
        TaskRow(
            id: TaskID(makeID()), kind: kind, instance: instance, parent: parent,
            requestID: requestID, state: try StateCoding.encode(state), generation: generation, createdAt: now)
    }

    /// The state in a row, for those who look at a task from outside.
    public static func state<S: Codable & Sendable>(_ type: S.Type, of row: TaskRow) throws -> S {
        try JSONDecoder().decode(type, from: Data(row.state))
    }

    /// Records a task, and begins it at once where this engine runs and has room. Throws `TaskError.duplicate`.
    public func submit(_ row: TaskRow) async throws {
        guard let (active, definition) = try reserve(row) else {
            try await storage.insert(row)
            return wake()
        }
        var taken = row
        taken.take(owner: owner, until: active.leaseUntil, now: now())
        if let first = definition.plan.first { taken.begin(first, now: now()) }
        do {
            try await storage.insert(taken)
        } catch {
            ended(active)
            throw error
        }
        start(taken, definition, active, after: nil)
    }

    /// Looks for runnable tasks now instead of at the next poll.
    public func wake() { signalled.raise() }

    /// Wakes a task that waits. Throws `TaskError.notFound`.
    public func signal(_ id: TaskID) async throws {
        try await storage.signal(id, now: now())
        wake()
    }

    /// Asks for a task's cancellation: the step under way is interrupted where it admits that, then everything is undone.
    /// A finished task stays as it is. Throws `TaskError.notFound`.
    public func cancel(_ id: TaskID) async throws {
        try await storage.requestCancel(id, now: now())
        state.withLock { $0.active[id] }?.interrupt(.cancel)
        wake()
    }

    /// Cancels a task that this engine works on if the `run` of one of `steps` is under way: no other step begins then,
    /// whether or not that one still succeeds. `nil` when no step of it is under way here at this moment.
    public func cancel(_ id: TaskID, during steps: Set<String>) -> Bool? {
        state.withLock { $0.active[id] }?.cancel(during: steps) ?? nil
    }

    /// At a process's start, before `run`: what an earlier process of this owner name left is taken over at once.
    public func recover() async throws {
        try await storage.expireLeases(owner: owner, now: now())
        wake()
    }

    /// Until `run` runs, no task is worked on and none is runnable; or until `run` ends. For tests.
    public func idle() async {
        await withCheckedContinuation { continuation in
            state.withLock { $0.idleWaiters.append(continuation) }
            wake()
        }
    }

    /// The number of tasks that this engine works on.
    public var activeCount: Int { state.withLock { $0.active.count } }

    func callHook(_ row: TaskRow, _ phase: TaskHook.Phase) {
        hooks?(TaskHook(id: row.id, kind: row.kind, step: row.step, phase: phase))
    }

    func backoff(_ policy: RetryPolicy, after attempt: Int) -> Duration {
        state.withLock { state in
            var generator = state.generator
            defer { state.generator = generator }
            return policy.backoff(after: attempt, using: &generator)
        }
    }

    /// Takes one of the kind's places for a new task; `nil` when the engine does not run or has no room.
    private func reserve(_ row: TaskRow) throws -> (ActiveTask, any AnyTaskDefinition)? {
        try state.withLock { state in
            guard state.isRunning, !state.isStopping, row.status == .pending, row.wakeAt == nil,
                let definition = state.definitions[row.kind], room(row.kind, state) > 0
            else { return nil }
            guard state.active[row.id] == nil else { throw TaskError.duplicate(row.id) }
            let active = ActiveTask(id: row.id, kind: row.kind, leaseUntil: now() + lease)
            state.active[row.id] = active
            return (active, definition)
        }
    }

    func room(_ kind: String, _ state: State) -> Int {
        (limits[kind] ?? Self.defaultLimit) - state.active.values.count { $0.kind == kind }
    }
}
