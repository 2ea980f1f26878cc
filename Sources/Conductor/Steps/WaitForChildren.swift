internal import Database
internal import Model
internal import Tasks

/// The one step of a batch: waits until every child has ended, and passes a cancellation on to them.
struct WaitForChildren: TaskStep {
    let name = "wait_for_children"
    let deadline = Duration.seconds(7 * 86_400)
    let tasks: any TaskStorage

    func run(_ state: inout BatchTaskState, _ context: StepContext) async throws -> StepOutcome {
        let children = try await tasks.children(of: context.row.id).filter { state.children.contains($0.id) }
        guard children.allSatisfy(\.status.isFinished) else {
            // Each end of a child wakes this task; the pause is for a word that was lost.
            return .wait(until: context.now() + .seconds(30))
        }
        let failed = children.filter { $0.status != .succeeded }
        guard failed.isEmpty else {
            let reasons = Set(failed.compactMap { $0.lastError?.message }).sorted().joined(separator: "; ")
            throw Failure(.hypervisor, "\(failed.count) of \(state.children.count) did not succeed: \(reasons)")
        }
        return .next
    }

    func undo(_ state: inout BatchTaskState, _ context: StepContext) async throws {
        for child in try await tasks.children(of: context.row.id) where !child.status.isFinished {
            try await tasks.requestCancel(child.id, now: context.now())
        }
    }
}
