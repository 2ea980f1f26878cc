internal import Model
internal import Tasks

/// Pulls the guest's plug. When that fails nothing else may be taken away, so the removal ends here.
struct PowerOffForRemoval: GuestStep {
    let name = "power_off"
    let deadline = Duration.seconds(120)
    let retry = RetryPolicy.standard

    func run(_ state: inout DeleteState, _ tools: OperationTools) async throws -> StepOutcome {
        try await tools.closeLive(state.instanceID)
        try await tools.pullPlug(state.instanceID)
        return .next
    }
}

/// Removes the domain's definition, and its shares of the host's devices.
struct UndefineDomain: GuestStep {
    let name = "undefine_domain"
    let deadline = Duration.seconds(60)

    func run(_ state: inout DeleteState, _ tools: OperationTools) async throws -> StepOutcome {
        try await state.attempt { try await tools.driver.undefine($0.instanceID) }
        let guest = try await tools.guest(state.instanceID)?.specification
        try await state.attempt { _ in try await tools.removeMediatedDevices(of: guest) }
        return .next
    }
}

/// Gives the guest's address back.
struct UnplugNetwork: GuestStep {
    let name = "unplug_network"
    let deadline = Duration.seconds(60)

    func run(_ state: inout DeleteState, _ tools: OperationTools) async throws -> StepOutcome {
        let interfaces = try await tools.guest(state.instanceID)?.specification.interfaces ?? []
        let kept = try await tools.setAside(state.instanceID)?.specification.interfaces
        try await state.attempt { state in
            // Of one that has been on two hosts neither keeps a MAC for others: both would.
            if let kept { try await tools.driver.leaveNetwork(state.instanceID, kept + interfaces) }
            try await tools.driver.unplugNetwork(state.instanceID, interfaces)
        }
        return .next
    }
}

/// Removes the instance's folder.
struct RemoveDisks: GuestStep {
    let name = "remove_disks"
    let deadline = Duration.seconds(300)

    func run(_ state: inout DeleteState, _ tools: OperationTools) async throws -> StepOutcome {
        try await state.attempt { state in
            // Powered off three steps ago; somebody at the host may have started it since.
            try await tools.requireOff(state.instanceID)
            // The files' own mark counts, too: an agent may have died before it had written down what it set aside.
            var kept = try await tools.setAside(state.instanceID)?.migration
            if kept == nil { kept = try await tools.driver.setAside()[state.instanceID] }
            if let kept { try await tools.driver.removeSetAside(state.instanceID, of: kept) }
            try await tools.driver.removeDisks(state.instanceID)
        }
        return .next
    }
}

/// Fails the removal if any of its parts failed; the record, and the claim, go when it succeeds.
struct CheckRemoval: GuestStep {
    let name = "check_removal"
    let deadline = Duration.seconds(10)

    func run(_ state: inout DeleteState, _ tools: OperationTools) async throws -> StepOutcome {
        guard let first = state.problems.first else { return .next }
        let messages = state.problems.map(\.message).joined(separator: "; ")
        throw Failure(first.kind, messages, isRetriable: false)
    }
}

extension DeleteState {
    /// Tries a part of the removal twice and notes what came of it. Cancellation is passed on.
    fileprivate mutating func attempt(
        _ body: (DeleteState) async throws -> Void
    ) async throws {
        do {
            do {
                try await body(self)
            } catch let failure as Failure where failure.isRetriable {
                try await body(self)
            }
        } catch let failure as Failure where failure.kind == .conflict {
            // Not ours, so not our removal's concern.
        } catch let failure as Failure {
            problems.append(failure)
        }
    }
}
