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
    let scheduler: RPCClient
    let alternates: Int
    let liveness: Liveness

    func isDone(_ state: BuildTaskState, _ context: StepContext) async throws -> Bool { state.candidates != nil }

    func run(_ state: inout BuildTaskState, _ context: StepContext) async throws -> StepOutcome {
        let instance = try await ledger.current(state.instance, context)
        let request = PlacementRequest(of: instance, alternates: alternates)
        let answer = try await scheduler.call(SelectDestinations.self, .init(request: request))
        guard let hosts = answer.selections.first, !hosts.isEmpty else {
            let refusal = answer.refusal ?? PlacementRefusal(hostsConsidered: 0, reasons: [])
            // One that is down may only not have been heard of yet: its heartbeat is on the way.
            if refusal.reasons.contains(where: { $0.reason == "down" }),
                await liveness.mayBeMistaken(now: context.now())
            {
                return .wait(until: context.now() + .milliseconds(500))
            }
            throw Failure(.noValidHost, refusal.message, details: refusal.details)
        }
        state.candidates = hosts
        return .next
    }
}
