internal import Model
internal import RPC
internal import Tasks

/// Copies the root disk as it is at one moment.
struct TakeSnapshot: GuestStep {
    let name = "take_snapshot"
    let deadline = Duration.seconds(4 * 3_600)
    let retry = RetryPolicy.standard

    func taskState(in state: CommandState) -> TaskState? { state.snapshotOrder == nil ? nil : state.states.taking }

    func run(_ state: inout CommandState, _ tools: OperationTools) async throws -> StepOutcome {
        guard let order = state.snapshotOrder else { return .next }
        let (id, states) = (state.instanceID, state.states)
        guard let guest = try await tools.guest(id) else {
            throw Failure(.notFound, "instance \(id) is not on this host")
        }
        if order.quiesce == .required { try await requireAgent(id, tools) }
        let meter = ProgressMeter()
        state.snapshot = try await tools.driver.takeSnapshot(
            guest.specification, name: order.image.rawValue,
            order: SnapshotRequest(format: order.format, quiesce: .init(order.quiesce))
        ) { part in
            let percent = Int(part * 50)
            if meter.isWorthTelling(percent) { await tools.share(id, states.taken, percent) }
        }
        return .next
    }

    /// Throws when the guest runs and no agent would hold its file systems still, before anything is begun.
    private func requireAgent(_ id: InstanceID, _ tools: OperationTools) async throws {
        guard try await tools.driver.observe(id)?.powerState == .running,
            try await !tools.driver.pingGuestAgent(id)
        else { return }
        throw Failure(
            .conflict, "the guest agent of instance \(id) does not answer, and the image's os_require_quiesce wants it")
    }

    func undo(_ state: inout CommandState, _ tools: OperationTools) async throws {
        guard let order = state.snapshotOrder else { return }
        try await tools.driver.removeSnapshot(state.instanceID, name: order.image.rawValue)
        state.snapshot = nil
    }
}

/// Sends the copy to the image service, from its beginning with each attempt.
struct UploadSnapshot: GuestStep {
    let name = "upload_snapshot"
    let deadline = Duration.seconds(4 * 3_600)
    /// A service that is gone gets some five minutes to come back.
    let retry = RetryPolicy(maxAttempts: 15, initialBackoff: .milliseconds(500), maxBackoff: .seconds(30))

    func taskState(in state: CommandState) -> TaskState? { state.snapshot == nil ? nil : state.states.uploading }

    func run(_ state: inout CommandState, _ tools: OperationTools) async throws -> StepOutcome {
        guard let order = state.snapshotOrder, let file = state.snapshot else { return .next }
        let (id, states, driver) = (state.instanceID, state.states, tools.driver)
        let meter = ProgressMeter()
        try await tools.uploads.upload(order.image, of: id, length: file.sizeBytes) { offset, count in
            try await driver.readSnapshot(file, at: offset, count: count)
        } progress: { sent in
            let percent = 50 + Int(sent * 50 / max(1, file.sizeBytes))
            if meter.isWorthTelling(percent) { await tools.share(id, states.uploading, percent) }
        }
        return .next
    }
}

/// Removes the copy from the host.
struct RemoveSnapshot: GuestStep {
    let name = "remove_snapshot"
    let deadline = Duration.seconds(120)
    let retry = RetryPolicy.standard

    func run(_ state: inout CommandState, _ tools: OperationTools) async throws -> StepOutcome {
        guard let order = state.snapshotOrder else { return .next }
        try await tools.driver.removeSnapshot(state.instanceID, name: order.image.rawValue)
        state.snapshot = nil
        return .next
    }
}

extension CommandState {
    /// What is to be copied where; `nil` for a command that copies nothing.
    var snapshotOrder: SnapshotOrder? {
        switch command {
        case .snapshot(let order): order
        case .shelve(let order): order
        default: nil
        }
    }

    /// What clients see: while the copy begins, while it is written, while it is sent.
    fileprivate var states: (taking: TaskState, taken: TaskState, uploading: TaskState) {
        if case .shelve = command { return (.shelving, .shelvingImagePendingUpload, .shelvingImageUploading) }
        return (.imageSnapshot, .imagePendingUpload, .imageUploading)
    }
}

extension SnapshotRequest.Quiesce {
    init(_ order: SnapshotOrder.Quiesce) {
        switch order {
        case .no: self = .no
        case .ifPossible: self = .ifPossible
        case .required: self = .required
        }
    }
}
