internal import Database
internal import Glibc
internal import Model
internal import Synchronization
internal import Tasks

/// What a durable step costs beside its own work, for `deploy/bench task`: tasks of ten steps that do nothing, one after
/// the other and many at once.
enum TaskBench {
    private static let steps = 10
    private static let together = 64
    private static let kind = "bench"

    private struct Nothing: TaskStep {
        struct State: Codable, Sendable { var number: Int }
        let name: String
        let deadline = Duration.seconds(60)

        func run(_ state: inout State, _ context: StepContext) async throws -> StepOutcome {
            state.number += 1
            return .next
        }
    }

    /// When each task has ended.
    private final class Ends: Sendable {
        private let state = Mutex<(waiting: [TaskID: CheckedContinuation<Void, Never>], ended: Set<TaskID>)>(([:], []))

        func note(_ id: TaskID) {
            let waiting = state.withLock { state in
                state.ended.insert(id)
                return state.waiting.removeValue(forKey: id)
            }
            waiting?.resume()
        }

        func wait(for id: TaskID) async {
            await withCheckedContinuation { continuation in
                let isOver = state.withLock { state in
                    guard !state.ended.contains(id) else { return true }
                    state.waiting[id] = continuation
                    return false
                }
                if isOver { continuation.resume() }
            }
        }
    }

    /// `--database FILE|URL`, `--engine NAME` for the figures, `--count N` tasks (100), `--table`. Returns the exit code.
    static func run(_ arguments: [String]) async -> Int32 {
        do {
            let options = try BenchOptions(arguments, known: ["--database", "--engine", "--count"])
            let place = try options.text("--database")
            let location: DatabaseLocation =
                place.hasPrefix("postgresql://") ? .server(url: place, connections: 8) : .file(place)
            try await measure(location, options)
            return 0
        } catch {
            return complain("\(error)")
        }
    }

    private static func measure(_ location: DatabaseLocation, _ options: BenchOptions) async throws {
        let count = try options.number("--count", default: 100)
        let name = try options.text("--engine")
        let database = try await ControlDatabase.open(location)
        let engine = TaskEngine(
            storage: database.tasks, owner: "bench", limits: [kind: together], poll: .seconds(10), now: database.now)
        let ends = Ends()
        engine.register(
            TaskDefinition<Nothing.State>(kind: kind, steps: (0..<steps).map { Nothing(name: "step-\($0)") }) {
                _, row, _ in
                ends.note(row.id)
            })
        let service = Task { try await engine.run() }
        let submit = { @Sendable in
            let row = try TaskEngine.makeRow(
                kind: kind, requestID: RequestID("req-bench"), state: Nothing.State(number: 0), now: database.now())
            try await engine.submit(row)
            await ends.wait(for: row.id)
        }
        // The first of all finds nothing prepared.
        for _ in 0..<5 { try await submit() }
        var lengths: [Double] = []
        for _ in 0..<count {
            let start = ContinuousClock.now
            try await submit()
            lengths.append((ContinuousClock.now - start).inSeconds * 1_000 / Double(steps))
        }
        let start = ContinuousClock.now
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<together {
                group.addTask { for _ in 0..<max(1, count / 10) { try await submit() } }
            }
            try await group.waitForAll()
        }
        let rate = Double(together * max(1, count / 10) * steps) / (ContinuousClock.now - start).inSeconds
        service.cancel()
        try await service.value
        await database.close()
        options.report("task.step_ms", percentile(lengths, 50), "ms", ["engine": name])
        options.report("task.step_p99_ms", percentile(lengths, 99), "ms", ["engine": name])
        options.report("task.steps_per_s", rate, "1/s", ["engine": name, "tasks": "\(together)"])
    }
}
