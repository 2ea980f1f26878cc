internal import Model
internal import RPC
internal import Tasks

/// Asks the scheduler for hosts: the one way of all tasks that place an instance.
struct HostSelection: Sendable {
    let scheduler: RPCClient
    let liveness: Liveness

    /// Fills `candidates` with the hosts to try, in order.
    ///
    /// - Throws: `.noValidHost` with the reasons.
    func run(
        _ request: PlacementRequest, into candidates: inout [HostName]?, _ context: StepContext
    ) async throws -> StepOutcome {
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
        candidates = hosts
        return .next
    }
}
