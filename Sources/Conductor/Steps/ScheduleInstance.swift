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
        var request = PlacementRequest(
            instances: [instance.id], resources: instance.resources, projectID: instance.projectID,
            availabilityZone: instance.availabilityZone, schedulerHints: instance.schedulerHints,
            alternates: alternates)
        (request.flavor, request.imageID) = (instance.flavor, instance.imageID)
        request.imageProperties = instance.imageProperties ?? [:]
        if let wanted = instance.destination {
            if wanted.isForced {
                (request.forcedHost, request.forcedNode) = (wanted.host, wanted.node)
            } else {
                (request.requestedHost, request.requestedNode) = (wanted.host, wanted.node)
            }
        }
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
