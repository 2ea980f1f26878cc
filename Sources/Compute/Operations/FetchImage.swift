internal import Model
internal import Tasks

/// Has the image in the host's cache.
struct FetchImage: GuestStep {
    let name = "fetch_image"
    let deadline = Duration.seconds(1_800)
    let retry = RetryPolicy.standard
    let taskState: TaskState? = .blockDeviceMapping

    func run(_ state: inout BuildState, _ tools: OperationTools) async throws -> StepOutcome {
        let (image, id) = (state.image, state.instance.id)
        try await tools.driver.prepareImage(image, for: state.instance.flavor) { write in
            try await tools.images.fetch(image, for: id, write)
        }
        return .next
    }
}
