internal import Database
internal import Model
internal import Tasks

/// A task's state that says which backups of which server stay.
protocol RotatingState: Codable, Sendable {
    var instance: InstanceID { get }
    var rotation: BackupRotation? { get }
}

extension GuestTaskState: RotatingState {}
extension RotationTaskState: RotatingState {}

/// Deletes the oldest backups of a kind beyond those that are kept.
struct RotateBackups<State: RotatingState>: TaskStep {
    let name = "rotate_backups"
    let deadline = Duration.seconds(600)
    let retry = RetryPolicy(maxAttempts: 20, initialBackoff: .milliseconds(500), maxBackoff: .seconds(30))
    let ledger: InstanceLedger
    let images: ServerImages

    func run(_ state: inout State, _ context: StepContext) async throws -> StepOutcome {
        // The server may have been deleted since; its backups stay, and so does their number.
        guard let rotation = state.rotation, let instance = try await ledger.find(state.instance) else { return .next }
        for image in try await images.surplus(of: instance, rotation) { try await images.delete(image) }
        return .next
    }
}
