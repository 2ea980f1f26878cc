import Crypto
import Model
import RPC
import SQL
import SQLite
import Tasks
import Telemetry
import Testing

@testable import Compute

@Suite("What waits to be told", .timeLimit(.minutes(2)))
struct OutboxTests {
    private func report(_ instance: InstanceID, _ number: Int) -> ReportOperation.Params {
        ReportOperation.Params(
            header: CommandHeader(
                task: TaskID("\(number)"), instance: instance, fence: Fence(generation: Int64(number), epoch: 0)),
            host: HostName("host1"), failure: nil, powerState: .running, interfaces: nil, launchedAt: nil, steps: [],
            endedAt: Timestamp(seconds: 0))
    }

    private func state(_ instance: InstanceID, _ vmState: VMState) -> ReportInstance.Params {
        ReportInstance.Params(
            host: HostName("host1"), instance: instance, fence: Fence(generation: 1, epoch: 0), vmState: vmState,
            powerState: .shutdown, taskState: nil, interfaces: nil, sequence: 1, observedAt: Timestamp(seconds: 0))
    }

    @Test("With no conductor there, outcomes wait on disk and arrive in order once one answers")
    func order() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            try await agent.built(instance)
            await agent.conductor.stop()
            var tasks: [TaskID] = []
            for (index, change) in [GuestCommand.stop, .start, .hardReboot].enumerated() {
                tasks.append(try await agent.operate(change, instance.id, generation: Int64(index + 2)))
            }
            while try await agent.core.journal.database.read({ try !$0.openOperations().isEmpty }) {
                await agent.core.engine.idle()
                try await Task.sleep(for: .milliseconds(5))
            }
            #expect(try await agent.core.journal.database.read { try $0.outboxCount() } >= 3)
            try agent.conductor.start()
            try await agent.conductor.until { $0.operations.count >= 4 }
            #expect(agent.conductor.heard.operations.map(\.header.task).suffix(3) == tasks[...])
            try await agent.settled()
        }
    }

    @Test("A report that the conductor refuses for good does not hold up the next one")
    func refused() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            try await agent.built(instance)
            agent.conductor.script { $0.refusal = Failure(.conflict, "a newer action came") }
            _ = try await agent.operate(.stop, instance.id, generation: 2)
            try await agent.settled()
            agent.conductor.script { $0.refusal = nil }
            let start = try await agent.operate(.start, instance.id, generation: 3)
            #expect(try await agent.conductor.outcome(of: start).failure == nil)
        }
    }

    @Test("A report that fails for now is told again")
    func retried() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        bench.conductor.script { $0.refusal = Failure(.overloaded, "later", isRetriable: true) }
        try await bench.run { agent in
            let task = try await agent.build(instance)
            while try await agent.core.journal.database.read({ try !$0.openOperations().isEmpty }) {
                try await Task.sleep(for: .milliseconds(5))
            }
            agent.conductor.script { $0.refusal = nil }
            #expect(try await agent.conductor.outcome(of: task).failure == nil)
        }
    }

    @Test("Only the newest state of an instance waits, behind the outcomes that came before it")
    func newestState() async throws {
        let journal = try await Journal.open(.memory, now: WallClock.now)
        let id = InstanceID("a")
        let (first, later) = (state(id, .active), state(id, .stopped))
        let outcome = report(id, 1)
        let rows = try await journal.database.write { connection in
            let now = Timestamp(seconds: 1)
            try connection.enqueue(first, requestID: RequestID("r"), now: now)
            try connection.enqueue(outcome, key: "k", requestID: RequestID("r"), now: now)
            try connection.enqueue(later, requestID: RequestID("r"), now: now)
            return try drain(id, connection)
        }
        #expect(rows.map(\.kind) == [.operation, .state])
        #expect(try decode(ReportInstance.Params.self, rows[1].payload).vmState == .stopped)
        await journal.database.close()
    }

    @Test("Beyond a thousand outcomes of one instance the oldest give way to a row that counts them")
    func bounded() async throws {
        let journal = try await Journal.open(.memory, now: WallClock.now)
        let id = InstanceID("a")
        let reports = (0..<1_010).map { report(id, $0) }
        let rows = try await journal.database.write { connection in
            for (number, report) in reports.enumerated() {
                try connection.enqueue(
                    report, key: "\(number)", requestID: RequestID("r"), now: Timestamp(seconds: 1))
            }
            return try drain(id, connection)
        }
        #expect(rows.count { $0.kind == .operation } == 1_000)
        #expect(rows.first?.idempotencyKey == "10")
        let markers = rows.filter { $0.kind == .dropped }
        #expect(markers.count == 1)
        #expect(try decode(Int.self, markers[0].payload) == 10)
        await journal.database.close()
    }

    @Test("An operation that lasts tells what it is at")
    func progress() async throws {
        let bench = try Bench()
        let slow = Instance.test()
        bench.driver.hold(.define)
        try await bench.run { agent in
            let task = try await agent.build(slow)
            let heard = try await agent.conductor.until { $0.instances.contains { $0.taskState == .spawning } }
            #expect(heard.instances.last?.instance == slow.id)
            #expect(heard.instances.last?.vmState == nil)
            agent.driver.release(.define)
            _ = try await agent.conductor.outcome(of: task)
        }
    }
}

private func drain(_ id: InstanceID, _ connection: SQLConnection) throws -> [OutboxRow] {
    var rows: [OutboxRow] = []
    while let row = try connection.outboxHead(id) {
        rows.append(row)
        try connection.removeOutbox(row.position)
    }
    return rows
}
