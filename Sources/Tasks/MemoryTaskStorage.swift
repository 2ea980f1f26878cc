public import Model
internal import Synchronization

/// A complete task storage that lasts as long as its process: for tests and simulations.
public final class MemoryTaskStorage: TaskStorage {
    private let rows = Mutex<[TaskID: TaskRow]>([:])

    public init() {}

    public func insert(_ row: TaskRow) async throws { try await insert([row]) }

    public func insert(_ rows: [TaskRow]) async throws {
        try self.rows.withLock { kept in
            var added = kept
            for row in rows {
                guard added[row.id] == nil else { throw TaskError.duplicate(row.id) }
                added[row.id] = row
            }
            kept = added
        }
    }

    public func lease(
        kinds: Set<String>, owner: String, until: Timestamp, now: Timestamp, limit: Int
    ) async throws -> [TaskRow] {
        rows.withLock { rows in
            let due = rows.values.compactMap { row -> (Timestamp, TaskID)? in
                guard kinds.contains(row.kind), let at = row.runnableAt, at <= now else { return nil }
                return (at, row.id)
            }
            return due.sorted { $0 < $1 }.prefix(max(0, limit)).compactMap { _, id in
                rows[id]?.take(owner: owner, until: until, now: now)
                return rows[id]
            }
        }
    }

    public func lease(id: TaskID, owner: String, until: Timestamp, now: Timestamp) async throws -> TaskRow? {
        rows.withLock { rows in
            guard let at = rows[id]?.runnableAt, at <= now else { return nil }
            rows[id]?.take(owner: owner, until: until, now: now)
            return rows[id]
        }
    }

    public func save(_ row: TaskRow) async throws {
        try rows.withLock { rows in
            guard let stored = rows[row.id], let owner = row.owner, stored.owner == owner, stored.epoch == row.epoch,
                !stored.status.isFinished
            else { throw TaskError.leaseLost(row.id) }
            var next = row
            if row.leaseUntil == nil { next.owner = nil }
            let isNews =
                stored.signals > row.signals || (stored.isCancelRequested && !row.isCancelRequested)
            if row.status == .waiting, isNews { next.wakeAt = row.updatedAt }
            next.signals = stored.signals
            next.isCancelRequested = row.isCancelRequested || stored.isCancelRequested
            rows[row.id] = next
        }
    }

    public func renew(ids: [TaskID], owner: String, until: Timestamp) async throws -> Set<TaskID> {
        rows.withLock { rows in
            let ours = ids.filter { rows[$0]?.owner == owner }
            for id in ours { rows[id]?.leaseUntil = until }
            return Set(ours)
        }
    }

    public func expireLeases(owner: String, now: Timestamp) async throws {
        rows.withLock { rows in
            for row in rows.values where row.owner == owner { rows[row.id]?.leaseUntil = now }
        }
    }

    public func find(_ id: TaskID) async throws -> TaskRow? { rows.withLock { $0[id] } }

    public func list(
        instance: InstanceID?, unfinishedOnly: Bool, limit: Int, after marker: TaskID?
    ) async throws -> [TaskRow] {
        try rows.withLock { rows in
            let last = try marker.map { (id) throws(TaskError) in
                guard let row = rows[id] else { throw TaskError.notFound(id) }
                return (row.createdAt, row.id)
            }
            let matching = rows.values.filter { row in
                (instance == nil || row.instance == instance) && !(unfinishedOnly && row.status.isFinished)
                    && last.map { (row.createdAt, row.id) < $0 } ?? true
            }
            return Array(matching.sorted { ($0.createdAt, $0.id) > ($1.createdAt, $1.id) }.prefix(max(0, limit)))
        }
    }

    public func children(of parent: TaskID) async throws -> [TaskRow] {
        rows.withLock { rows in
            rows.values.filter { $0.parent == parent }.sorted { ($0.createdAt, $0.id) < ($1.createdAt, $1.id) }
        }
    }

    public func hasten(_ id: TaskID, now: Timestamp) async throws -> Bool {
        try rows.withLock { rows in
            guard let row = rows[id] else { throw TaskError.notFound(id) }
            guard !row.status.isFinished, row.owner == nil else { return false }
            rows[id]?.attempts = 0
            rows[id]?.wakeAt = min(row.wakeAt ?? now, now)
            return true
        }
    }

    public func signal(_ id: TaskID, now: Timestamp) async throws {
        try rows.withLock { rows in
            guard let row = rows[id] else { throw TaskError.notFound(id) }
            guard !row.status.isFinished else { return }
            rows[id]?.signals += 1
            if row.status == .waiting { rows[id]?.wakeAt = min(row.wakeAt ?? now, now) }
        }
    }

    public func requestCancel(_ id: TaskID, now: Timestamp) async throws {
        try rows.withLock { rows in
            guard let row = rows[id] else { throw TaskError.notFound(id) }
            guard !row.status.isFinished else { return }
            rows[id]?.isCancelRequested = true
            if row.status == .waiting || row.status == .pending { rows[id]?.wakeAt = min(row.wakeAt ?? now, now) }
        }
    }

    public func cancelRequested(among ids: [TaskID]) async throws -> Set<TaskID> {
        rows.withLock { rows in Set(ids.filter { rows[$0]?.isCancelRequested == true }) }
    }

    public func nextWake(kinds: Set<String>) async throws -> Timestamp? {
        rows.withLock { rows in
            rows.values.compactMap { kinds.contains($0.kind) ? $0.runnableAt : nil }.min()
        }
    }

    public func trim(finishedBefore: Timestamp) async throws -> Int {
        rows.withLock { rows in
            let old = rows.values.filter { $0.finishedAt.map { $0 < finishedBefore } ?? false }
            for row in old { rows[row.id] = nil }
            return old.count
        }
    }
}
