internal import Database
internal import Images
internal import Model
internal import Tasks

/// First step of unshelving: the image of the shelved disk, which somebody may have removed since.
struct ReadShelvedImage: TaskStep {
    let name = "read_shelved_image"
    let deadline = Duration.seconds(60)
    let retry = RetryPolicy.standard
    let images: any ImageStorage

    func run(_ state: inout BuildTaskState, _ context: StepContext) async throws -> StepOutcome {
        let id = state.shelvedImage ?? state.image.id
        guard let record = try await images.find(id) else {
            throw Failure(.imageUnacceptable, "The image \(id) of the shelved disk could not be found.")
        }
        guard let image = record.reference else {
            throw Failure(
                .imageUnacceptable, "The image \(id) of the shelved disk is \(record.status.rawValue), not active.")
        }
        state.image = image
        return .next
    }
}
