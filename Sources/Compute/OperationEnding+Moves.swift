internal import Model
internal import RPC
internal import SQL
internal import SQLite
internal import Tasks

extension OperationEnding {
    /// Closes a host's part in a move: who lives here, and which claim holds what, changes in one transaction.
    func move(_ state: inout MoveState, _ row: TaskRow, _ end: TaskEnd) async throws {
        state.forgetSecrets()
        let (ended, failure) = (state, state.hasLeft == true ? nil : end.failure)
        let id = ended.instanceID
        let outcome = OperationOutcome(
            failure: failure, powerState: await power(of: id), interfaces: nil, launchedAt: nil, steps: ended.timings,
            endedAt: journal.now())
        let kind = OperationKind(rawValue: row.kind)
        try await close(row, outcome) { connection, outcome in
            guard failure == nil else {
                // What was undone is as before; what was not the conductor has removed, or asks for again.
                outcome.interfaces = try connection.guest(id)?.specification.interfaces
                // It has come all the same, and is nowhere else: this host knows it, for whatever is done about it.
                if kind == .arrive, outcome.powerState != .noState, try connection.guest(id) == nil {
                    var arrived = ended
                    arrived.vmState = .error
                    try Self.takeOver(arrived, &outcome, connection)
                }
                return
            }
            switch kind {
            // The way back needs the room; of a guest that was sent only until it has arrived.
            case .setAside, .send: try Self.setAside(ended, outcome, connection)
            case .takeOver, .arrive: try Self.takeOver(ended, &outcome, connection)
            case .release: try Self.release(ended, connection)
            case .forget, .leave: try Self.forget(ended, connection)
            case .takeBack: try Self.takeBack(ended, &outcome, connection)
            default: break
            }
        }
        // Claims that changed their purpose; those that went `close` has given back.
        // In a transaction, as claims are made: none is lost that is being promised just now.
        let tracker = tracker
        try await journal.database.write { _ = tracker.restore(try $0.claims()) }
    }

    private static func setAside(
        _ ended: MoveState, _ outcome: OperationOutcome, _ connection: SQLConnection
    ) throws {
        guard let guest = try connection.guest(ended.instanceID) else { return }
        try connection.put(
            SetAsideRecord(
                migration: ended.migration, specification: guest.specification, vmState: ended.vmState,
                launchedAt: guest.launchedAt), now: outcome.endedAt)
        // The claim stays: the way back needs the room.
        try connection.forgetRecord(ended.instanceID)
    }

    private static func takeOver(
        _ ended: MoveState, _ outcome: inout OperationOutcome, _ connection: SQLConnection
    ) throws {
        let guest = GuestRecord(
            specification: ended.specification, vmState: ended.vmState, powerState: outcome.powerState,
            launchedAt: ended.launchedAt ?? (ended.vmState == .active ? outcome.endedAt : nil), isLeftover: false)
        try connection.put(guest, now: outcome.endedAt)
        outcome.interfaces = ended.specification.interfaces
        guard !ended.isSameHost, let claim = try connection.move(ended) else { return }
        _ = try connection.settle(claim)
    }

    private static func release(_ ended: MoveState, _ connection: SQLConnection) throws {
        // Read again: whatever is here now and is not of this migration stays.
        if let guest = try connection.guest(ended.instanceID), guest.specification.arrivedBy == ended.migration {
            guard ended.isSameHost else { return try connection.forgetGuest(ended.instanceID) }
            try connection.forgetRecord(ended.instanceID)
        }
        if let claim = try connection.move(ended) { try connection.release(claim) }
    }

    private static func forget(_ ended: MoveState, _ connection: SQLConnection) throws {
        guard try connection.setAside(ended.instanceID)?.migration == ended.migration else { return }
        guard ended.isSameHost else { return try connection.forgetGuest(ended.instanceID) }
        try connection.forgetSetAside(ended.instanceID)
        if let claim = try connection.move(ended) { _ = try connection.settle(claim) }
    }

    private static func takeBack(
        _ ended: MoveState, _ outcome: inout OperationOutcome, _ connection: SQLConnection
    ) throws {
        if let aside = try connection.setAside(ended.instanceID), aside.migration == ended.migration {
            try connection.put(
                GuestRecord(
                    specification: aside.specification, vmState: ended.vmState, powerState: outcome.powerState,
                    launchedAt: aside.launchedAt, isLeftover: false), now: outcome.endedAt)
            try connection.forgetSetAside(ended.instanceID)
        } else if var guest = try connection.guest(ended.instanceID) {
            (guest.vmState, guest.powerState) = (ended.vmState, outcome.powerState)
            try connection.put(guest, now: outcome.endedAt)
        }
        outcome.interfaces = try connection.guest(ended.instanceID)?.specification.interfaces
        if let claim = try connection.move(ended) { try connection.release(claim) }
    }
}

extension SQLConnection {
    /// The claim of the move.
    fileprivate func move(_ ended: MoveState) throws -> Claim? {
        try claims(of: ended.instanceID).first { $0.purpose == .move(ended.migration) }
    }

    /// Forgets a guest, whose claim stays.
    fileprivate func forgetRecord(_ id: InstanceID) throws {
        try execute("DELETE FROM guests WHERE instance = ?", [.text(id.rawValue)])
    }
}
