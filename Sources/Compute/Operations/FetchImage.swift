internal import Model
internal import Tasks

/// Has the image in the host's cache.
struct FetchImage: GuestStep {
    let name = "fetch_image"
    let deadline = Duration.seconds(1_800)
    let retry = RetryPolicy.standard
    let taskState: TaskState? = .blockDeviceMapping

    func run(_ state: inout BuildState, _ tools: OperationTools) async throws -> StepOutcome {
        try await tools.prepareImage(state)
        return .next
    }
}

extension OperationTools {
    /// Has the image of a build in the host's cache. Moments when it is there.
    func prepareImage(_ state: BuildState) async throws {
        try await prepareImage(state.image, for: state.instance.flavor, of: state.instanceID)
    }

    /// Has an image in the host's cache.
    func prepareImage(_ image: ImageReference, for flavor: Flavor, of id: InstanceID) async throws {
        try await driver.prepareImage(image, for: flavor) { [images] offset, write in
            try await images.fetch(image, for: .instance(id), from: offset, write)
        }
    }
}
