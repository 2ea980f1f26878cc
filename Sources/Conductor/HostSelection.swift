internal import Database
internal import Images
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

extension PlacementRequest {
    /// Asks where an instance may move to, not to any of `ignored`.
    init(of instance: Instance, _ state: MoveTaskState, alternates: Int, ignoring ignored: some Sequence<HostName>) {
        var instance = instance
        // What was asked for when it was made has been done.
        instance.destination = nil
        self.init(of: instance, alternates: state.requestedHost == nil ? alternates : 0)
        requestedHost = state.requestedHost
        ignoredHosts.formUnion(ignored)
    }
}

extension ImageStorage {
    /// Throws where the image is gone that the instance's disk stands on: another host could not have it.
    func requireBase(of instance: Instance, toBe moved: String) async throws {
        guard try await find(instance.imageID)?.reference == nil else { return }
        throw Failure(
            .imageUnacceptable,
            "the image \(instance.imageID) of instance \(instance.id) is gone: it cannot be \(moved)")
    }
}
