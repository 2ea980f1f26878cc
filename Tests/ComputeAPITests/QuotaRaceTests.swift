import ComputeAPI
import Database
import HTTP
import Model
import Tasks
import Testing

@Suite("Quotas that are counted again")
struct QuotaRaceTests {
    @Test(
        "Of many requests at once as many are served as fit, and nothing is made of the others",
        arguments: ["instances", "cores", "ram"])
    func race(resource: String) async throws {
        let places = 5
        let cloud = try await ComputeFixture()
        let flavor = try #require(try await cloud.database.flavors.find(FlavorID("42")))
        let each = ["instances": 1, "cores": flavor.vcpus, "ram": flavor.memoryMiB][resource] ?? 0
        try #require(each > 0)
        // All but the one limit are none.
        let limits = Dictionary(
            uniqueKeysWithValues: ["instances", "cores", "ram"].map { ($0, JSON.integer(-1)) }
        ).merging([resource: .integer(Int64(places * each + each - 1))]) { $1 }
        let set = await cloud.send(
            .put, "os-quota-class-sets/default", as: "p0/admin", ["quota_class_set": .object(limits)])
        #expect(set.status == 200)
        let replies = await withTaskGroup { group in
            for _ in 0..<60 { group.addTask { await cloud.send(.post, "servers", ComputeFixture.server()) } }
            return await group.reduce(into: [ComputeFixture.Reply]()) { $0.append($1) }
        }
        #expect(replies.count { $0.status == 202 } == places && replies.count { $0.status == 403 } == 60 - places)
        for reply in replies where reply.status == 403 {
            #expect(
                reply.message.contains("Quota exceeded for \(resource)") && reply.message.contains("\(places * each)"),
                "\(reply.message)")
        }
        let made = try await cloud.database.instances.list(InstanceQuery())
        let served = Set(replies.compactMap { $0.json["server"]?["id"]?.text })
        #expect(Set(made.map(\.id.rawValue)) == served && served.count == places)
        // Neither a row in ERROR, nor a task or an action of one that is not there.
        #expect(made.allSatisfy { $0.vmState == .building && $0.fault == nil })
        let tasks = try await cloud.database.tasks.list(instance: nil, unfinishedOnly: false, limit: 100)
        #expect(Set(tasks.compactMap(\.instance?.rawValue)) == served && tasks.count == places)
        #expect(try await cloud.database.check().isEmpty)
        // What is given back is the next one's.
        let gone = try #require(made.first?.id)
        _ = try await cloud.database.instances.update(gone, now: ComputeFixture.start) {
            ($0.vmState, $0.deletedAt) = (.deleted, ComputeFixture.start)
        }
        #expect(await cloud.send(.post, "servers", ComputeFixture.server()).status == 202)
        #expect(await cloud.send(.post, "servers", ComputeFixture.server()).status == 403)
    }
}
