import Model
import Synchronization
import Tasks

/// A storage with faults: one save at which its engine dies, saves that fail for a while, or a cut line.
final class FaultyStorage: TaskStorage {
    struct Fault: Error {}
    struct Faults: Sendable {
        /// The number of saves before the one at which the engine dies.
        var fatalSave: Int?
        /// Whether that save is the last thing that happens, or does not happen any more.
        var fatalSaveHappens = false
        /// Leases are neither given nor renewed.
        var isCutOff = false
    }
    private struct State {
        var saves = 0
        var isDead = false
        var failingSaves = 0
    }

    private let base: any TaskStorage
    private let faults: Faults
    private let state = Mutex(State())

    init(_ base: any TaskStorage, faults: Faults) { (self.base, self.faults) = (base, faults) }

    var isDead: Bool { state.withLock { $0.isDead } }

    func failNextSaves(_ count: Int) { state.withLock { $0.failingSaves = count } }

    private func check() throws { if isDead || faults.isCutOff { throw Fault() } }

    func save(_ row: TaskRow) async throws {
        enum Fate { case stored, refused, last, dead }
        let fate = state.withLock { state -> Fate in
            if state.isDead { return .dead }
            if state.failingSaves > 0 {
                state.failingSaves -= 1
                return .refused
            }
            defer { state.saves += 1 }
            return state.saves == faults.fatalSave ? .last : .stored
        }
        switch fate {
        case .stored: return try await base.save(row)
        case .refused: throw Fault()
        case .last:
            if faults.fatalSaveHappens { try await base.save(row) }
            state.withLock { $0.isDead = true }
        case .dead: break
        }
        // To an engine its own death looks like the loss of the lease: it stops where it is.
        throw TaskError.leaseLost(row.id)
    }

    func insert(_ row: TaskRow) async throws { try await base.insert(row) }
    func insert(_ rows: [TaskRow]) async throws { try await base.insert(rows) }

    func lease(
        kinds: Set<String>, owner: String, until: Timestamp, now: Timestamp, limit: Int
    ) async throws -> [TaskRow] {
        try check()
        return try await base.lease(kinds: kinds, owner: owner, until: until, now: now, limit: limit)
    }

    func lease(id: TaskID, owner: String, until: Timestamp, now: Timestamp) async throws -> TaskRow? {
        try check()
        return try await base.lease(id: id, owner: owner, until: until, now: now)
    }

    func renew(ids: [TaskID], owner: String, until: Timestamp) async throws -> Set<TaskID> {
        try check()
        return try await base.renew(ids: ids, owner: owner, until: until)
    }

    func nextWake(kinds: Set<String>) async throws -> Timestamp? {
        if faults.isCutOff { return nil }
        try check()
        return try await base.nextWake(kinds: kinds)
    }

    func expireLeases(owner: String, now: Timestamp) async throws {
        try await base.expireLeases(owner: owner, now: now)
    }

    func find(_ id: TaskID) async throws -> TaskRow? { try await base.find(id) }

    func list(
        instance: InstanceID?, unfinishedOnly: Bool, limit: Int, after marker: TaskID?
    ) async throws -> [TaskRow] {
        try await base.list(instance: instance, unfinishedOnly: unfinishedOnly, limit: limit, after: marker)
    }

    func children(of parent: TaskID) async throws -> [TaskRow] { try await base.children(of: parent) }

    func hasten(_ id: TaskID, now: Timestamp) async throws -> Bool { try await base.hasten(id, now: now) }

    func signal(_ id: TaskID, now: Timestamp) async throws { try await base.signal(id, now: now) }

    func requestCancel(_ id: TaskID, now: Timestamp) async throws { try await base.requestCancel(id, now: now) }

    func cancelRequested(among ids: [TaskID]) async throws -> Set<TaskID> {
        try await base.cancelRequested(among: ids)
    }

    func trim(finishedBefore: Timestamp) async throws -> Int { try await base.trim(finishedBefore: finishedBefore) }
}
