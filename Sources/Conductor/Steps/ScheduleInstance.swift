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
    /// Until then a host that is not heard of may only not have been heard of yet: its heartbeat is on the way.
    let patientUntil: Timestamp

    func isDone(_ state: BuildTaskState, _ context: StepContext) async throws -> Bool { state.candidates != nil }

    func run(_ state: inout BuildTaskState, _ context: StepContext) async throws -> StepOutcome {
        let instance = try await ledger.current(state.instance, context)
        let request = PlacementRequest(of: instance, alternates: alternates)
        let answer = try await scheduler.call(SelectDestinations.self, .init(request: request))
        guard let hosts = answer.selections.first, !hosts.isEmpty else {
            let refusal = answer.refusal ?? PlacementRefusal(hostsConsidered: 0, reasons: [])
            if context.now() < patientUntil, refusal.reasons.contains(where: { $0.reason == "down" }) {
                return .wait(until: context.now() + .milliseconds(500))
            }
            throw Failure(.noValidHost, refusal.message, details: refusal.details)
        }
        state.candidates = hosts
        return .next
    }
}
