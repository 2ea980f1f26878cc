internal import Model
internal import RPC
internal import SQL
internal import SQLite
internal import Tasks

extension OperationEnding {
    /// Closes the taking in of a guest: it lives here, and its claim is its own, in one transaction.
    func takeIn(_ state: inout TakeInState, _ row: TaskRow, _ end: TaskEnd) async throws {
        state.forgetSecrets()
        let (ended, failure) = (state, end.failure)
        var outcome = OperationOutcome(
            failure: failure, powerState: await power(of: ended.instanceID), interfaces: nil,
            launchedAt: failure == nil ? ended.launchedAt : nil, steps: ended.timings, endedAt: journal.now())
        outcome.sharesDisks = ended.sharesDisks
        try await close(row, outcome) { connection, outcome in
            // What was undone is as before; what was not the conductor has removed.
            guard failure == nil else { return }
            try connection.put(
                GuestRecord(
                    specification: ended.specification, vmState: ended.vmState, powerState: outcome.powerState,
                    launchedAt: ended.launchedAt, isLeftover: false), now: outcome.endedAt)
            outcome.interfaces = ended.specification.interfaces
            let claim = try connection.claims(of: ended.instanceID).first { $0.purpose == .move(ended.migration) }
            if let claim { _ = try connection.settle(claim) }
        }
        try await readClaims()
    }

    /// Closes the end of a stale guest: nothing of it is on record any more.
    func discard(_ state: inout DiscardState, _ row: TaskRow, _ end: TaskEnd) async throws {
        let (ended, failure) = (state, end.failure)
        let outcome = OperationOutcome(
            failure: failure, powerState: await power(of: ended.instanceID), interfaces: nil, launchedAt: nil,
            steps: ended.timings, endedAt: journal.now())
        try await close(row, outcome) { connection, outcome in
            guard failure == nil else { return }
            guard ended.isDecided else {
                guard var guest = try connection.guest(ended.instanceID) else { return }
                (guest.vmState, guest.powerState) = (.stopped, outcome.powerState)
                return try connection.put(guest, now: outcome.endedAt)
            }
            try connection.forgetGuest(ended.instanceID)
            // From now on no older command counts here.
            let fence = Fence(generation: ended.generation, epoch: 0)
            try connection.setFence(
                ended.instanceID, max(fence, try connection.fence(ended.instanceID) ?? fence), now: outcome.endedAt)
        }
        try await readClaims()
    }

    /// In a transaction, as claims are made: none is lost that is being promised just now.
    private func readClaims() async throws {
        let tracker = tracker
        try await journal.database.write { _ = tracker.restore(try $0.claims()) }
    }
}
