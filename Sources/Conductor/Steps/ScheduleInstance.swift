internal import Database
internal import Model
internal import RPC
internal import Tasks

/// First step of a build: the hosts to try, in order.
struct ScheduleInstance: TaskStep {
    let name = "schedule"
    let deadline = Duration.seconds(120)
    let retry = RetryPolicy.standard
    let ledger: InstanceLedger
    let selection: HostSelection
    let alternates: Int

    func isDone(_ state: BuildTaskState, _ context: StepContext) async throws -> Bool { state.candidates != nil }

    func run(_ state: inout BuildTaskState, _ context: StepContext) async throws -> StepOutcome {
        let instance = try await ledger.current(state.instance, context)
        let request = PlacementRequest(of: instance, alternates: alternates)
        return try await selection.run(request, into: &state.candidates, context)
    }
}
