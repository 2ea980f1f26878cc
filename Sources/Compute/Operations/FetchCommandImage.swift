internal import Model
internal import RPC
internal import Tasks

/// Has the image of a rescue or a rebuild in the host's cache, before anything of the guest is touched.
struct FetchCommandImage: GuestStep {
    let name = "fetch_image"
    let deadline = Duration.seconds(1_800)
    let retry = RetryPolicy.standard

    func run(_ state: inout CommandState, _ tools: OperationTools) async throws -> StepOutcome {
        guard let image = state.material?.image else { return .next }
        var flavor = state.instance.flavor
        if case .rescue = state.command {
            // The rescue's disk has the size of its image, and the others are there.
            (flavor.rootGiB, flavor.ephemeralGiB, flavor.swapMiB) = (0, 0, 0)
        }
        try await tools.prepareImage(image, for: flavor, of: state.instanceID)
        return .next
    }
}
