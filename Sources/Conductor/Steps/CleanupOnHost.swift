internal import Database
internal import Model
internal import RPC
internal import Tasks

/// Removes from one host what an abandoned attempt may have left there.
struct CleanupOnHost: TaskStep {
    let name = "cleanup_on_host"
    let deadline = Duration.seconds(90 * 86_400)
    let retry = RetryPolicy.standard
    // Half a removal helps nobody.
    let canCancel = false
    let command: HostCommand

    func run(_ state: inout CleanupTaskState, _ context: StepContext) async throws -> StepOutcome {
        let progress = try await command.progress(
            DeleteInstance.self, to: state.host, instance: state.instance, dispatchedEpoch: &state.dispatchedEpoch,
            context
        ) { .init(header: $0) }
        switch progress {
        case .ended(let report):
            if let failure = report.failure { throw failure }
            return .next
        case .refused(let failure) where [.notFound, .forbidden, .conflict].contains(failure.kind):
            // Revoked, or a newer command has since been given to that host: nothing of this attempt is left.
            return .next
        case .refused(let failure):
            throw failure
        case .undelivered, .underWay:
            return .wait(until: context.now() + .seconds(30))
        }
    }
}

/// Inserts cleanup tasks, one for each abandoned attempt however often it is asked.
struct CleanupQueue: Sendable {
    let engine: TaskEngine
    let tasks: any TaskStorage

    func add(instance: InstanceID, host: HostName, for context: StepContext) async throws {
        var row = try TaskEngine.makeRow(
            kind: TaskKind.cleanup, instance: instance, parent: context.row.id, requestID: context.row.requestID,
            generation: context.row.generation, state: CleanupTaskState(instance: instance, host: host),
            now: context.now())
        row.id = Self.id(of: context.row.id, host)
        row.epoch = context.row.epoch
        guard try await tasks.find(row.id) == nil else { return }
        try await tasks.insert(row)
        engine.wake()
    }

    /// Whether an attempt of the task on the host was given up.
    func isAdded(host: HostName, for context: StepContext) async throws -> Bool {
        try await tasks.find(Self.id(of: context.row.id, host)) != nil
    }

    /// The same for the same attempt: a step that runs again after a crash finds the task that it had inserted.
    static func id(of task: TaskID, _ host: HostName) -> TaskID { TaskID("\(task)/cleanup/\(host)") }
}
