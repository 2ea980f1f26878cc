import Model
import SQL
import TaskStore
import Tasks
import Testing

/// All storages keep the same promises: every test runs against the one in memory and those of the engines.
@Suite("Task storages")
struct TaskStorageTests {
    enum Kind: CaseIterable {
        case memory, sqlite
        #if PostgreSQL
            case postgresql
        #endif
    }

    private func make(_ kind: Kind) async throws -> any TaskStorage {
        switch kind {
        case .memory: return MemoryTaskStorage()
        case .sqlite: return try await make(.sqlite as Engine)
        #if PostgreSQL
            case .postgresql: return try await make(.postgresql as Engine)
        #endif
        }
    }

    private func make(_ engine: Engine) async throws -> any TaskStorage {
        let database = try await engine.open()
        try await database.migrate(SQLTaskStorage.migrations, component: SQLTaskStorage.component)
        return SQLTaskStorage(database: database)
    }

    private func row(_ id: String, kind: String = "build", instance: String? = nil, at second: Int64 = 0) -> TaskRow {
        TaskRow(
            id: TaskID(id), kind: kind, instance: instance.map { InstanceID($0) }, requestID: RequestID("req-1"),
            state: [1, 0, 255], generation: 3, createdAt: Timestamp(seconds: second))
    }

    private func at(_ second: Int64) -> Timestamp { Timestamp(seconds: second) }

    private func lease(
        _ storage: any TaskStorage, owner: String = "one", now: Int64, limit: Int = 10
    ) async throws -> [TaskRow] {
        try await storage.lease(kinds: ["build"], owner: owner, until: at(now + 15), now: at(now), limit: limit)
    }

    @Test("A row comes back with everything that was in it", arguments: Kind.allCases)
    func roundTrip(kind: Kind) async throws {
        let storage = try await make(kind)
        var full = row("t", instance: "i")
        full.parent = TaskID("p")
        (full.step, full.begun, full.undoFailures) = ("b", ["a", "b"], ["a: no \"way\""])
        (full.status, full.attempts, full.epoch, full.signals) = (.undoing, 2, 4, 5)
        (full.owner, full.leaseUntil, full.wakeAt, full.deadline) = ("one", at(9), at(8), at(7))
        (full.stepStartedAt, full.isCancelRequested) = (at(6), true)
        full.lastError = Failure(.timeout, "too slow", isRetriable: true)
        try await storage.insert(full)
        #expect(try await storage.find(full.id) == full)
        #expect(try await storage.find(TaskID("other")) == nil)
    }

    @Test("Children are found by their parent, oldest first", arguments: Kind.allCases)
    func children(kind: Kind) async throws {
        let storage = try await make(kind)
        for (id, second, parent) in [("b", 2, "p"), ("a", 1, "p"), ("c", 3, "q")] as [(String, Int64, String)] {
            var child = row(id, at: second)
            child.parent = TaskID(parent)
            try await storage.insert(child)
        }
        #expect(try await storage.children(of: TaskID("p")).map(\.id) == [TaskID("a"), TaskID("b")])
        #expect(try await storage.children(of: TaskID("none")).isEmpty)
    }

    @Test("What waits for its next attempt is hastened; what is at work or over is not", arguments: Kind.allCases)
    func hasten(kind: Kind) async throws {
        let storage = try await make(kind)
        try await storage.insert(row("t"))
        var taken = try #require(try await lease(storage, now: 1).first)
        #expect(try await storage.hasten(taken.id, now: at(2)) == false)
        (taken.status, taken.attempts, taken.wakeAt, taken.leaseUntil) = (.waiting, 4, at(900), nil)
        try await storage.save(taken)
        #expect(try await storage.hasten(taken.id, now: at(3)))
        let hastened = try #require(try await storage.find(taken.id))
        #expect(hastened.attempts == 0 && hastened.wakeAt == at(3) && hastened.status == .waiting)
        var again = try #require(try await lease(storage, now: 3).first)
        (again.status, again.finishedAt, again.leaseUntil) = (.succeeded, at(4), nil)
        try await storage.save(again)
        #expect(try await storage.hasten(again.id, now: at(5)) == false)
        await #expect(throws: TaskError.notFound(TaskID("x"))) { try await storage.hasten(TaskID("x"), now: at(5)) }
    }

    @Test("An id can be used once", arguments: Kind.allCases)
    func duplicate(kind: Kind) async throws {
        let storage = try await make(kind)
        try await storage.insert(row("t"))
        await #expect(throws: TaskError.duplicate(TaskID("t"))) { try await storage.insert(row("t")) }
    }

    @Test("Leases go to the longest due, of the kinds asked for, up to the limit, once", arguments: Kind.allCases)
    func leases(kind: Kind) async throws {
        let storage = try await make(kind)
        for second in [3, 1, 2] as [Int64] { try await storage.insert(row("t\(second)", at: second)) }
        try await storage.insert(row("other", kind: "delete", at: 0))
        try await storage.insert(row("later", at: 50))
        let taken = try await lease(storage, now: 10, limit: 2)
        #expect(taken.map(\.id.rawValue) == ["t1", "t2"])
        #expect(taken.allSatisfy { $0.status == .running && $0.owner == "one" && $0.epoch == 0 })
        #expect(taken.allSatisfy { $0.leaseUntil == at(25) })
        #expect(try await lease(storage, owner: "two", now: 10).map(\.id.rawValue) == ["t3"])
        #expect(try await lease(storage, owner: "two", now: 10).isEmpty)
    }

    @Test(
        "A lease that ended is taken over with the next epoch; its old owner can no longer save",
        arguments: Kind.allCases)
    func takeOver(kind: Kind) async throws {
        let storage = try await make(kind)
        try await storage.insert(row("t"))
        var old = try #require(try await lease(storage, now: 0).first)
        #expect(try await lease(storage, owner: "two", now: 14).isEmpty)
        let new = try #require(try await lease(storage, owner: "two", now: 15).first)
        #expect(new.epoch == 1 && new.owner == "two" && new.fence == Fence(generation: 3, epoch: 1))
        old.step = "late"
        await #expect(throws: TaskError.leaseLost(TaskID("t"))) { try await storage.save(old) }
        #expect(try await storage.find(TaskID("t"))?.step == nil)
    }

    @Test("The same owner, come back, is not its earlier self", arguments: Kind.allCases)
    func restart(kind: Kind) async throws {
        let storage = try await make(kind)
        try await storage.insert(row("t"))
        let old = try #require(try await lease(storage, now: 0).first)
        try await storage.expireLeases(owner: "other", now: at(1))
        #expect(try await lease(storage, now: 1).isEmpty)
        try await storage.expireLeases(owner: "one", now: at(1))
        let new = try #require(try await lease(storage, now: 1).first)
        #expect(new.epoch == 1)
        await #expect(throws: TaskError.leaseLost(TaskID("t"))) { try await storage.save(old) }
    }

    @Test(
        "A row given up has no owner, and is taken without a new epoch when its time has come", arguments: Kind.allCases
    )
    func givenUp(kind: Kind) async throws {
        let storage = try await make(kind)
        try await storage.insert(row("t"))
        var taken = try #require(try await lease(storage, now: 0).first)
        (taken.status, taken.wakeAt, taken.leaseUntil) = (.waiting, at(30), nil)
        try await storage.save(taken)
        #expect(try await storage.find(taken.id)?.owner == nil)
        #expect(try await storage.nextWake(kinds: ["build"]) == at(30))
        #expect(try await lease(storage, owner: "two", now: 29).isEmpty)
        let again = try #require(try await lease(storage, owner: "two", now: 30).first)
        #expect(again.epoch == 0 && again.status == .running && again.wakeAt == at(30))
    }

    @Test("A lease by id takes only what is runnable", arguments: Kind.allCases)
    func leaseOne(kind: Kind) async throws {
        let storage = try await make(kind)
        try await storage.insert(row("t", at: 5))
        let id = TaskID("t")
        #expect(try await storage.lease(id: id, owner: "one", until: at(20), now: at(4)) == nil)
        #expect(try await storage.lease(id: id, owner: "one", until: at(20), now: at(5))?.status == .running)
        #expect(try await storage.lease(id: id, owner: "one", until: at(20), now: at(5)) == nil)
    }

    @Test("A signal ends a wait at once", arguments: Kind.allCases)
    func signalWaiting(kind: Kind) async throws {
        let storage = try await make(kind)
        try await storage.insert(row("t"))
        var taken = try #require(try await lease(storage, now: 0).first)
        (taken.status, taken.wakeAt, taken.leaseUntil) = (.waiting, at(900), nil)
        try await storage.save(taken)
        try await storage.signal(taken.id, now: at(3))
        #expect(try await storage.nextWake(kinds: ["build"]) == at(3))
        let woken = try #require(try await lease(storage, now: 3).first)
        #expect(woken.signals == 1)
    }

    @Test("A signal that comes before the wait is saved ends it at once", arguments: Kind.allCases)
    func signalBeforeWait(kind: Kind) async throws {
        let storage = try await make(kind)
        try await storage.insert(row("t"))
        var taken = try #require(try await lease(storage, now: 0).first)
        try await storage.signal(taken.id, now: at(1))
        (taken.status, taken.wakeAt, taken.leaseUntil, taken.updatedAt) = (.waiting, at(900), nil, at(2))
        try await storage.save(taken)
        var woken = try #require(try await lease(storage, now: 2).first)
        // Taken with the signal seen: the next wait is a real one.
        (woken.status, woken.wakeAt, woken.leaseUntil) = (.waiting, at(900), nil)
        try await storage.save(woken)
        #expect(try await lease(storage, now: 3).isEmpty)
    }

    @Test(
        "A cancellation wakes what waits, survives later saves, and wakes a seen one no second time",
        arguments: Kind.allCases)
    func cancel(kind: Kind) async throws {
        let storage = try await make(kind)
        try await storage.insert(row("t"))
        var taken = try #require(try await lease(storage, now: 0).first)
        try await storage.requestCancel(taken.id, now: at(1))
        #expect(try await storage.cancelRequested(among: [taken.id, TaskID("x")]) == [taken.id])
        (taken.status, taken.wakeAt, taken.leaseUntil, taken.updatedAt) = (.waiting, at(900), nil, at(2))
        try await storage.save(taken)
        var woken = try #require(try await lease(storage, now: 2).first)
        #expect(woken.isCancelRequested)
        (woken.status, woken.wakeAt, woken.leaseUntil) = (.waiting, at(900), nil)
        try await storage.save(woken)
        #expect(try await storage.nextWake(kinds: ["build"]) == at(900))
    }

    @Test("A pending task that is put off is runnable at once when cancelled", arguments: Kind.allCases)
    func cancelPending(kind: Kind) async throws {
        let storage = try await make(kind)
        var later = row("t")
        later.wakeAt = at(500)
        try await storage.insert(later)
        #expect(try await lease(storage, now: 1).isEmpty)
        try await storage.requestCancel(later.id, now: at(1))
        #expect(try await lease(storage, now: 1).count == 1)
    }

    @Test("Finished tasks are not touched by signals, cancellations, leases or saves", arguments: Kind.allCases)
    func finished(kind: Kind) async throws {
        let storage = try await make(kind)
        try await storage.insert(row("t"))
        let taken = try #require(try await lease(storage, now: 0).first)
        var closed = taken
        (closed.status, closed.finishedAt, closed.leaseUntil, closed.step) = (.succeeded, at(5), nil, nil)
        try await storage.save(closed)
        let stored = try await storage.find(taken.id)
        try await storage.signal(taken.id, now: at(6))
        try await storage.requestCancel(taken.id, now: at(6))
        #expect(try await storage.find(taken.id) == stored)
        #expect(try await storage.nextWake(kinds: ["build"]) == nil)
        await #expect(throws: TaskError.leaseLost(TaskID("t"))) { try await storage.save(taken) }
        #expect(try await storage.trim(finishedBefore: at(5)) == 0)
        #expect(try await storage.trim(finishedBefore: at(6)) == 1)
        #expect(try await storage.find(taken.id) == nil)
    }

    @Test("Unknown tasks are named", arguments: Kind.allCases)
    func unknown(kind: Kind) async throws {
        let storage = try await make(kind)
        await #expect(throws: TaskError.notFound(TaskID("t"))) { try await storage.signal(TaskID("t"), now: at(0)) }
        await #expect(throws: TaskError.notFound(TaskID("t"))) {
            try await storage.requestCancel(TaskID("t"), now: at(0))
        }
    }

    @Test("Renewal prolongs our leases and tells which are ours", arguments: Kind.allCases)
    func renew(kind: Kind) async throws {
        let storage = try await make(kind)
        for id in ["a", "b"] { try await storage.insert(row(id)) }
        _ = try await lease(storage, now: 0, limit: 1)
        _ = try await lease(storage, owner: "two", now: 0)
        let ids = [TaskID("a"), TaskID("b"), TaskID("c")]
        #expect(try await storage.renew(ids: ids, owner: "one", until: at(100)) == [TaskID("a")])
        #expect(try await lease(storage, owner: "three", now: 50).map(\.id.rawValue) == ["b"])
    }

    @Test("Lists are newest first, of one instance, with or without what is finished", arguments: Kind.allCases)
    func list(kind: Kind) async throws {
        let storage = try await make(kind)
        try await storage.insert(row("a", instance: "i", at: 1))
        try await storage.insert(row("b", instance: "i", at: 2))
        try await storage.insert(row("c", at: 3))
        var done = try #require(try await lease(storage, now: 1).first)
        (done.status, done.finishedAt, done.leaseUntil) = (.failed, at(5), nil)
        try await storage.save(done)
        let instance = InstanceID("i")
        #expect(
            try await storage.list(instance: instance, unfinishedOnly: false, limit: 9).map(\.id.rawValue) == [
                "b", "a",
            ])
        #expect(
            try await storage.list(instance: instance, unfinishedOnly: true, limit: 9).map(\.id.rawValue) == ["b"])
        #expect(
            try await storage.list(instance: nil, unfinishedOnly: false, limit: 2).map(\.id.rawValue) == ["c", "b"])
        try await storage.insert(row("b2", at: 2))
        for (marker, expected) in [("c", ["b2", "b", "a"]), ("b2", ["b", "a"]), ("b", ["a"]), ("a", [])] {
            let page = try await storage.list(
                instance: nil, unfinishedOnly: false, limit: 9, after: TaskID(marker))
            #expect(page.map(\.id.rawValue) == expected, "after \(marker)")
        }
        #expect(
            try await storage.list(instance: instance, unfinishedOnly: true, limit: 9, after: TaskID("c")).map(
                \.id.rawValue) == ["b"])
        await #expect(throws: TaskError.notFound(TaskID("x"))) {
            _ = try await storage.list(instance: nil, unfinishedOnly: false, limit: 9, after: TaskID("x"))
        }
    }
}
