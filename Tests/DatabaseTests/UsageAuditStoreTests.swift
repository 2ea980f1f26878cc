import Model
import Testing

@testable import Database

@Suite("Usage audits")
struct UsageAuditStoreTests {
    private let period = at(1_000)..<at(2_000)

    private func add(
        _ database: ControlDatabase, _ id: String, host: String? = "a", launched: Int64?, ended: Int64? = nil
    ) async throws {
        var instance = plainInstance(id, at: 10)
        instance.vmState = .active
        instance.host = host.map { HostName($0) }
        instance.launchedAt = launched.map(at)
        (instance.terminatedAt, instance.deletedAt) = (ended.map(at), ended.map(at))
        _ = try await database.instances.create([instance], actions: [], tasks: [])
    }

    @Test(
        "Each instance that was there for a part of the period is told, once, with the period; others are not",
        arguments: Engine.allCases)
    func told(_ engine: Engine) async throws {
        let database = try await makeDatabase(engine)
        try await database.notifications.setSinks(["s"])
        try await add(database, "all", launched: 500)
        try await add(database, "begun", launched: 1_999)
        try await add(database, "ended", launched: 500, ended: 1_001)
        try await add(database, "too-late", launched: 2_000)
        try await add(database, "too-early", launched: 500, ended: 1_000)
        try await add(database, "never-ran", launched: nil)
        try await add(database, "elsewhere", host: "b", launched: 500)
        try await add(database, "nowhere", host: nil, launched: 500)
        let audits = database.usageAudits
        #expect(try await audits.hosts(in: period) == [HostName("a"), HostName("b")])
        #expect(try await audits.tell(of: HostName("a"), in: period, now: at(2_100)) == 3)
        #expect(try await audits.tell(of: HostName("a"), in: period, now: at(2_200)) == nil)
        let waiting = try await database.notifications.waiting(for: "s", limit: 10)
        #expect(Set(waiting.map(\.subject)) == ["all", "begun", "ended"] && waiting.count == 3)
        let first = try JSON(parsing: Array(waiting[0].body.utf8))
        #expect(first["event_type"] == "instance.exists" && first["publisher_id"] == "nova-compute:a")
        #expect(first["payload"]?["nova_object.name"] == "InstanceExistsPayload")
        let data = first["payload"]?["nova_object.data"]
        #expect(data?["uuid"]?.text == waiting[0].subject && data?["tenant_id"] == "p")
        let told = data?["audit_period"]?["nova_object.data"]
        #expect(told?["audit_period_beginning"]?.text == at(1_000).iso8601)
        #expect(told?["audit_period_ending"]?.text == at(2_000).iso8601)
        #expect(
            try await audits.list(period) == [
                UsageAudit(host: HostName("a"), period: period, instances: 3, finishedAt: at(2_100))
            ])
        #expect(try await audits.list(at(1_000)..<at(2_001)).isEmpty)
        await database.close()
    }

    @Test("Two that tell the same at once tell it once", arguments: Engine.allCases)
    func once(_ engine: Engine) async throws {
        let database = try await makeDatabase(engine)
        try await database.notifications.setSinks(["s"])
        try await add(database, "i", launched: 500)
        let period = period
        let answers = try await withThrowingTaskGroup(of: Int?.self) { group in
            for number in 0..<8 {
                group.addTask {
                    try await database.usageAudits.tell(of: HostName("a"), in: period, now: at(2_100 + Int64(number)))
                }
            }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(answers.compactMap { $0 } == [1])
        #expect(try await database.notifications.waiting(for: "s", limit: 10).count == 1)
        await database.close()
    }

    @Test("Audits are kept for another of their periods, and forgotten then", arguments: Engine.allCases)
    func trim(_ engine: Engine) async throws {
        let database = try await makeDatabase(engine)
        try await add(database, "i", launched: 500)
        #expect(try await database.usageAudits.tell(of: HostName("a"), in: period, now: at(2_100)) == 1)
        #expect(try await database.usageAudits.trim(before: at(4_000)) == 0)
        #expect(try await database.usageAudits.list(period).count == 1)
        #expect(try await database.usageAudits.trim(before: at(4_001)) == 1)
        #expect(try await database.usageAudits.list(period).isEmpty)
        await database.close()
    }
}
