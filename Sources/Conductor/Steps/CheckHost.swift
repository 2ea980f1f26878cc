internal import Database
internal import Model
internal import RPC
internal import Tasks

/// First step of a rebuild: whether the instance's own host may have the new image. It takes nothing, so that asking again
/// does no harm.
struct CheckHost: TaskStep {
    let name = "check_host"
    let deadline = Duration.seconds(120)
    let retry = RetryPolicy.standard
    let ledger: InstanceLedger
    let scheduler: RPCClient

    /// What a guest is made from already its host may have.
    func isDone(_ state: GuestTaskState, _ context: StepContext) async throws -> Bool { state.newImage == nil }

    func run(_ state: inout GuestTaskState, _ context: StepContext) async throws -> StepOutcome {
        state.isHostInQuestion = true
        let instance = try await ledger.current(state.instance, context)
        guard let image = state.newImage else { return .next }
        guard let host = instance.host else {
            throw Failure(.conflict, "instance \(state.instance) is on no host")
        }
        // Without the flavor: what that asks of the host it has had since the build.
        var request = PlacementRequest(
            instances: [instance.id], resources: instance.resources, projectID: instance.projectID, alternates: 0)
        (request.imageID, request.imageProperties) = (image.id, image.properties)
        let answer: CheckRebuild.Result
        do {
            answer = try await scheduler.call(CheckRebuild.self, .init(request: request, host: host))
        } catch {
            guard error.kind == .methodNotFound else { throw error }
            // A scheduler of an earlier version, about to be replaced.
            return .wait(until: context.now() + .seconds(2))
        }
        if let refusal = answer.refusal { throw Failure(.noValidHost, refusal.message, details: refusal.details) }
        state.isHostInQuestion = nil
        return .next
    }
}

extension GuestTaskState {
    /// The image of a rebuild, where it is another one than the guest is made from.
    fileprivate var newImage: ImageReference? {
        guard case .rebuild(let material) = command, let formerImage, formerImage.id != material.image.id else {
            return nil
        }
        return material.image
    }
}
