internal import Model
internal import RPC
internal import Tasks

/// The step lists of all operations.
struct OperationDefinitions: Sendable {
    let tools: OperationTools
    let ending: OperationEnding

    static let build: [any GuestStep<BuildState>] = [
        FetchImage(), PlugNetwork(), CreateDisks(), WriteConfigDrive(), DefineDomain(), StartGuest(),
    ]
    static let delete: [any GuestStep<DeleteState>] = [
        PowerOffForRemoval(), UndefineDomain(), UnplugNetwork(), RemoveDisks(), CheckRemoval(),
    ]

    /// The steps of a change of power; nothing for other kinds.
    static func power(
        _ kind: OperationKind, shutdownGrace: Duration, rebootGrace: Duration
    ) -> [any GuestStep<PowerOperationState>] {
        switch kind {
        case .start: [RedefineDomain(), PowerOnGuest()]
        case .stop: [ShutDownGuest(grace: shutdownGrace)]
        case .hardReboot: [ResetGuest(), RedefineDomain(), PowerOnGuest()]
        case .softReboot: [AskGuestToReboot(grace: rebootGrace), ResetGuest(), RedefineDomain(), PowerOnGuest()]
        case .build, .delete: []
        }
    }

    /// The name of the first step: where an operation that waits for its turn begins.
    static func firstStep(of kind: OperationKind) -> String? {
        switch kind {
        case .build: build.first?.name
        case .delete: delete.first?.name
        default: power(kind, shutdownGrace: .zero, rebootGrace: .zero).first?.name
        }
    }

    func register(with engine: TaskEngine) {
        let ending = ending
        engine.register(
            TaskDefinition<BuildState>(
                kind: OperationKind.build.rawValue, steps: Self.build.map { timed($0) },
                finished: { state, row, end in try await ending.build(&state, row, end) }))
        engine.register(
            TaskDefinition<DeleteState>(
                kind: OperationKind.delete.rawValue, steps: Self.delete.map { timed($0) },
                finished: { state, row, end in try await ending.delete(&state, row, end) }))
        for kind in [OperationKind.start, .stop, .softReboot, .hardReboot] {
            let steps = Self.power(kind, shutdownGrace: tools.shutdownGrace, rebootGrace: tools.rebootGrace)
            engine.register(
                TaskDefinition<PowerOperationState>(
                    kind: kind.rawValue, steps: steps.map { timed($0) },
                    finished: { state, row, end in try await ending.power(kind, &state, row, end) }))
        }
    }

    private func timed<State: OperationState>(_ step: any GuestStep<State>) -> any TaskStep<State> {
        wrap(step)
    }

    private func wrap<Step: GuestStep>(_ step: Step) -> any TaskStep<Step.State> { Timed(step: step, tools: tools) }
}
