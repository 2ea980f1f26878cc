internal import Database
internal import Model
internal import RPC
internal import Tasks

/// Has one image after the other in a host's cache. It is asked again until it has them all.
struct CacheOnHost: TaskStep {
    let name = "cache_on_host"
    let deadline = Duration.seconds(86_400)
    let retry = RetryPolicy.standard
    let agents: AgentDirectory
    let liveness: Liveness

    func run(_ state: inout CacheImagesTaskState, _ context: StepContext) async throws -> StepOutcome {
        while state.cached < state.images.count {
            try Task.checkCancellation()
            guard await liveness.isUp(state.host, now: context.now()) else {
                // Nothing is lost: a guest that needs the image there fetches it.
                throw Failure(.unreachable, "host \(state.host) is down")
            }
            let image = state.images[state.cached]
            let answer = try await agents.call(
                CacheImage.self, .init(host: state.host, task: context.row.id, image: image), on: state.host)
            // The host has waited before it said no; the pause is for one that does not.
            guard answer.isCached else { return .wait(until: context.now() + .seconds(1)) }
            state.cached += 1
        }
        return .next
    }
}
