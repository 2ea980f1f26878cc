internal import Model
internal import RPC
internal import Synchronization
internal import Tasks
internal import Telemetry

/// Looks whether the running guest can be carried over, and lets the destination ask about it.
struct OpenOffer: GuestStep {
    let name = "open_offer"
    let deadline = Duration.seconds(120)

    func run(_ state: inout MoveState, _ tools: OperationTools) async throws -> StepOutcome {
        _ = try await tools.driver.offerGuest(state.specification, for: state.migration)
        tools.live.gates.offer(state.instanceID, for: state.migration)
        return .next
    }

    func undo(_ state: inout MoveState, _ tools: OperationTools) async throws {
        tools.live.gates.withdraw(state.instanceID, of: state.migration)
        try await tools.driver.withdrawOffer(state.instanceID, of: state.migration)
    }
}

/// Makes what the guest needs here, and opens this host's end to the source.
struct ReceiveGuest: GuestStep {
    let name = "receive_guest"
    let deadline = Duration.seconds(3_600)
    let retry = RetryPolicy(maxAttempts: 5, initialBackoff: .milliseconds(500), maxBackoff: .seconds(5))

    func run(_ state: inout MoveState, _ tools: OperationTools) async throws -> StepOutcome {
        guard case .receive(_, let source, let request) = state.order else { return .next }
        let peer = tools.live.peer(source, state.migration, state.instanceID)
        let offer = try await peer.offer()
        let answer = try await tools.driver.receiveGuest(
            state.specification, of: state.migration, offer, from: peer.files(of: offer),
            isBlockMigration: request.isBlockMigration)
        _ = try tools.live.door.open(state.instanceID, for: state.migration, answer)
        return .next
    }

    func undo(_ state: inout MoveState, _ tools: OperationTools) async throws {
        tools.live.gates.close(state.instanceID, of: state.migration)
        try await tools.requireOff(state.instanceID)
        try await tools.driver.removeTakenOver(state.instanceID, of: state.migration)
        try await tools.driver.removeLiveSockets(of: state.migration)
    }
}

/// Carries the guest over. When it ends well the guest is at the destination, where it stands still, and nowhere here.
struct SendGuest: GuestStep {
    let name = "send_guest"
    let deadline = MoveOrder.carryingLimit
    // An agent that starts anew looks what has become of it; libvirt that does so is waited for.
    let retry = RetryPolicy(maxAttempts: 20, initialBackoff: .milliseconds(500), maxBackoff: .seconds(10))

    func run(_ state: inout MoveState, _ tools: OperationTools) async throws -> StepOutcome {
        guard case .send(let destination, _) = state.order else { return .next }
        let (id, migration, driver) = (state.instanceID, state.migration, tools.driver)
        let isRunning = state.vmState == .active
        tools.live.gates.offer(id, for: migration)
        if try await tools.specification(id).sentBy == migration {
            // An earlier attempt was cut off, by the end of this process or of libvirt's.
            guard try await !tools.hasLeft(state, to: destination) else { return .next }
        } else if try await driver.observe(id) == nil {
            throw Failure(.notFound, "the guest of instance \(id) is not on this host")
        }
        let peer = tools.live.peer(destination, migration, id)
        let answer: LiveAnswer
        do {
            answer = try await peer.answer()
        } catch var failure as Failure {
            // The guest is here, whatever the other host does.
            failure.isRetriable = false
            throw failure
        }
        try await tools.change(id) { guest in
            guest.sentBy = migration
            if !answer.copiedDisks.isEmpty { guest.copiedBy = migration }
        }
        let plan = LivePlan(
            migration: migration, destination: destination.host, answer: answer,
            sockets: try await driver.makeLiveSockets(of: migration), isRunning: isRunning)
        let tell = tools.tellProgress
        let hasGoneOn = Mutex(false)
        do {
            try await peer.listen(plan) {
                try await driver.sendGuest(id, plan) { progress, isPostCopy in
                    await tell(id, migration, progress, isPostCopy)
                } gone: {
                    // libvirt notices the end of a process some 200 ms later; so long the guest need not stand still.
                    guard isRunning, await peer.go(id) else { return }
                    hasGoneOn.withLock { $0 = true }
                }
            }
        } catch {
            // It runs there, whatever libvirt makes of its end here.
            guard hasGoneOn.withLock({ $0 }), try await driver.observe(id)?.isOn != true else { throw error }
        }
        return .next
    }

    func undo(_ state: inout MoveState, _ tools: OperationTools) async throws {
        do {
            // As long as libvirt says nothing the guest may be on either host: then this is asked again, without end.
            if case .send(let destination, _) = state.order,
                try await tools.guest(state.instanceID)?.specification.sentBy == state.migration,
                try await tools.hasLeft(state, to: destination)
            {
                state.hasLeft = true
            }
        } catch let failure as Failure where failure.kind == .conflict {
            // It is nowhere but here, and off.
        } catch {
            throw Failure(.unreachable, "where the guest is cannot be found out: \(error)", isRetriable: true)
        }
        try await tools.closeOffer(state)
    }
}

/// Lets the guest go on at the destination: it is on record by now that nothing of it is here.
struct LetGuestGo: GuestStep {
    let name = "let_guest_go"
    let deadline = Duration.seconds(120)

    func run(_ state: inout MoveState, _ tools: OperationTools) async throws -> StepOutcome {
        guard case .send(let destination, _) = state.order else { return .next }
        if state.vmState == .active {
            _ = await tools.live.peer(destination, state.migration, state.instanceID).go(state.instanceID)
        }
        try await tools.closeOffer(state)
        return .next
    }

    func undo(_ state: inout MoveState, _ tools: OperationTools) async throws { state.hasLeft = true }
}

extension LivePeer {
    /// Has the destination's guest go on, and says whether it does; if not the conductor has it go on, later.
    fileprivate func go(_ id: InstanceID) async -> Bool {
        do {
            try await go()
            return true
        } catch {
            Logger("agent.live").notice(
                "the destination was not told that its guest may go on", ["instance": id, "error": LoggedError(error)])
            return false
        }
    }
}

extension OperationTools {
    /// Whether a guest that was being sent is at the destination, and nowhere here any more; false where it goes on here.
    /// `.conflict` when it is on neither host.
    fileprivate func hasLeft(_ state: MoveState, to destination: MoveSource) async throws -> Bool {
        let id = state.instanceID
        switch try await driver.departure(id, isRunning: state.vmState == .active) {
        case .left: return true
        case .stayed: return false
        case .unknown:
            let hasArrived: Bool
            do {
                hasArrived = try await live.peer(destination, state.migration, id).hasArrived()
            } catch let error {
                // Its own answer may be that it does not know: nobody else can say.
                throw Failure(
                    .unreachable, "only host \(destination.host) can say whether the guest has come there: \(error)",
                    isRetriable: true)
            }
            guard hasArrived else {
                throw Failure(.conflict, "the guest of instance \(id) went off while it was sent")
            }
            Logger("agent.live").notice(
                "the hypervisor does not know that a guest has left; its destination has it",
                ["instance": id, "host": destination.host])
            return true
        }
    }

    fileprivate func closeOffer(_ state: MoveState) async throws {
        live.gates.withdraw(state.instanceID, of: state.migration)
        try await driver.withdrawOffer(state.instanceID, of: state.migration)
        try await driver.removeLiveSockets(of: state.migration)
    }

    /// Closes whatever is open for the instance, of any migration.
    func closeLive(_ id: InstanceID) async throws {
        for migration in live.gates.forget(id) { try await driver.removeLiveSockets(of: migration) }
    }
}

/// Makes the guest this host's own.
struct SettleGuest: GuestStep {
    let name = "settle_guest"
    let deadline = Duration.seconds(300)
    let retry = RetryPolicy.standard

    func run(_ state: inout MoveState, _ tools: OperationTools) async throws -> StepOutcome {
        state.forgetSecrets()
        if state.vmState == .active { try await tools.driver.goOn(state.instanceID) }
        try await tools.driver.settleGuest(state.specification, of: state.migration)
        tools.live.gates.close(state.instanceID, of: state.migration)
        return .next
    }
}

/// Removes what this host has of a guest that lives elsewhere: its files only where the other host has files of its own.
struct RemoveDeparted: GuestStep {
    let name = "remove_departed"
    let deadline = Duration.seconds(300)
    let retry = RetryPolicy.standard

    func run(_ state: inout MoveState, _ tools: OperationTools) async throws -> StepOutcome {
        // Whatever else has come here since by another way stays.
        guard state.isSetAside else { return .next }
        try await tools.requireOff(state.instanceID)
        try await tools.dropGuest(state.instanceID, state.specification)
        if state.specification.copiedBy == state.migration {
            try await tools.driver.removeDisks(state.instanceID)
        }
        return .next
    }
}
