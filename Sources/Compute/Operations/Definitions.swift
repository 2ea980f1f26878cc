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

    static let takeIn: [any GuestStep<TakeInState>] = [
        FindDisks(), FetchTakenInImage(), AdoptNetwork(), MakeTakenInDisks(), DefineTakenIn(), StartTakenIn(),
    ]
    static let discard: [any GuestStep<DiscardState>] = [PowerOffStale(), RemoveStaleDomain(), RemoveStaleDisks()]

    /// The root disk's copy on its way into the image service; nothing for a command without an order.
    static let snapshot: [any GuestStep<CommandState>] = [TakeSnapshot(), UploadSnapshot(), RemoveSnapshot()]

    /// The steps of a host's part in a move; nothing for what is none.
    static func move(_ kind: OperationKind, shutdownGrace: Duration) -> [any GuestStep<MoveState>] {
        switch kind {
        case .reserve: [ReportReservedRoom()]
        case .setAside: [ShutDownForMove(grace: shutdownGrace), SetAsideDisks()]
        case .takeOver:
            [FetchMovedImage(), AdoptNetwork(), TakeOverDisks(), DefineMovedDomain(), StartMovedGuest()]
        case .release: [PowerOffMovedGuest(), RemoveTakenOver()]
        case .forget: [RemoveSetAside()]
        case .takeBack: [BringBackDisks(), DefineFormerDomain(), StartFormerGuest()]
        case .offer: [OpenOffer()]
        case .receive: [FetchMovedImage(), AdoptNetwork(), ReceiveGuest()]
        case .send: [SendGuest(), LetGuestGo()]
        case .arrive: [AdoptNetwork(), SettleGuest()]
        case .leave: [RemoveDeparted()]
        default: []
        }
    }

    /// The steps of an operation on a guest that is there; nothing for what is not built.
    static func command(
        _ kind: OperationKind, shutdownGrace: Duration, rebootGrace: Duration
    ) -> [any GuestStep<CommandState>] {
        let shutDown = ShutDownGuest(grace: shutdownGrace)
        let shutDownForAWhile = ShutDownGuest(grace: shutdownGrace, isTemporary: true)
        return switch kind {
        case .build, .delete, .reserve, .setAside, .takeOver, .release, .forget, .takeBack, .takeIn, .discard: []
        case .offer, .receive, .send, .arrive, .leave: []
        case .start, .restore: [RedefineDomain(), PowerOnGuest()]
        case .stop: [shutDown]
        case .softDelete: [ResetGuest(isTemporary: true)]
        case .hardReboot:
            [ResetGuest(taskState: .rebootStartedHard), DiscardSavedMemory(), RedefineDomain(), PowerOnGuest()]
        case .softReboot: [AskGuestToReboot(grace: rebootGrace), ResetGuest(), RedefineDomain(), PowerOnGuest()]
        case .pause: [PauseGuest()]
        case .unpause: [UnpauseGuest()]
        case .suspend: [SuspendGuest()]
        case .resume: [ResumeGuest()]
        case .rescue:
            [
                FetchCommandImage(), shutDownForAWhile, CreateRescueDisks(), WriteCommandConfigDrive(),
                DefineChangedDomain(), PowerOnGuest(isUndone: true),
            ]
        case .unrescue: [ResetGuest(), DefineChangedDomain(), RemoveRescueDisks(), PowerOnGuest()]
        case .rebuild:
            [
                FetchCommandImage(), shutDownForAWhile, DismantleGuest(), CreateRebuiltDisks(),
                WriteCommandConfigDrive(), DefineChangedDomain(), PowerOnRebuilt(),
            ]
        case .snapshot: snapshot
        case .shelve:
            [shutDownForAWhile, DiscardSavedMemory()]
                + snapshot
        case .setPassword: [SetPassword()]
        case .attachInterface: [PlugInterface(), AttachInterface()]
        case .detachInterface: [DetachInterface(), UnplugInterface()]
        }
    }

    /// The names of the steps of a kind, in order; empty for a kind that nothing carries out.
    static func stepNames(of kind: OperationKind) -> [String] {
        switch kind {
        case .build: build.map(\.name)
        case .delete: delete.map(\.name)
        case .takeIn: takeIn.map(\.name)
        case .discard: discard.map(\.name)
        default:
            command(kind, shutdownGrace: .zero, rebootGrace: .zero).map(\.name)
                + move(kind, shutdownGrace: .zero).map(\.name)
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
        engine.register(
            TaskDefinition<TakeInState>(
                kind: OperationKind.takeIn.rawValue, steps: Self.takeIn.map { timed($0) },
                finished: { state, row, end in try await ending.takeIn(&state, row, end) }))
        engine.register(
            TaskDefinition<DiscardState>(
                kind: OperationKind.discard.rawValue, steps: Self.discard.map { timed($0) },
                finished: { state, row, end in try await ending.discard(&state, row, end) }))
        for kind in OperationKind.allCases {
            let steps = Self.command(kind, shutdownGrace: tools.shutdownGrace, rebootGrace: tools.rebootGrace)
            let parts = Self.move(kind, shutdownGrace: tools.shutdownGrace)
            if !parts.isEmpty {
                engine.register(
                    TaskDefinition<MoveState>(
                        kind: kind.rawValue, steps: parts.map { timed($0) },
                        finished: { state, row, end in try await ending.move(&state, row, end) }))
            }
            guard !steps.isEmpty else { continue }
            engine.register(
                TaskDefinition<CommandState>(
                    kind: kind.rawValue, steps: steps.map { timed($0) },
                    finished: { state, row, end in try await ending.command(&state, row, end) }))
        }
    }

    private func timed<State: OperationState>(_ step: any GuestStep<State>) -> any TaskStep<State> {
        wrap(step)
    }

    private func wrap<Step: GuestStep>(_ step: Step) -> any TaskStep<Step.State> { Timed(step: step, tools: tools) }
}
