import Database
import Model
import Testing

@testable import ComputeAPI

@Suite("Usage audits as administrators see them")
struct UsageAuditTests {
    @Test("Which hosts have been told of, of the last period and of an earlier one")
    func log() async throws {
        let cloud = try await ComputeFixture()
        var server = Instance(
            id: InstanceID("i"), projectID: ProjectID("p1"), userID: UserID("u"), name: "i", hostname: "i",
            flavor: Flavor(id: FlavorID("1"), name: "f", vcpus: 1, memoryMiB: 1, rootGiB: 1), imageID: ImageID("m"),
            reservationID: "r", createdAt: try #require(Timestamp(iso8601: "2020-01-10")))
        (server.host, server.launchedAt, server.vmState) = (HostName("kvm9"), server.createdAt, .active)
        _ = try await cloud.database.instances.create([server], actions: [], tasks: [])
        let path = "os-instance_usage_audit_log"
        func show(_ suffix: String, _ name: String) async throws -> JSON {
            let reply = try await cloud.get(path + suffix, version: "2.1", as: "admin")
            #expect(reply.status == 200, "\(reply.message)")
            return try #require(reply.json[name])
        }
        let before = "/2020-02-15%2010:00:00"
        let open = try await show(before, "instance_usage_audit_log")
        #expect(open["period_beginning"] == "2020-01-01 00:00:00" && open["period_ending"] == "2020-02-01 00:00:00")
        #expect(open["hosts_not_run"]?.list?.contains("kvm9") == true && open["num_hosts_done"] == 0)
        #expect(open["overall_status"]?.text?.hasPrefix("0 of ") == true)
        let period = AuditPeriod.monthly.lastEnded(at: try #require(Timestamp(iso8601: "2020-02-15")))
        let now = try #require(Timestamp(iso8601: "2020-02-01T00:01:00Z"))
        for host in try await cloud.database.usageAudits.hosts(in: period) {
            _ = try await cloud.database.usageAudits.tell(of: host, in: period, now: now)
        }
        let done = try await show(before, "instance_usage_audit_log")
        #expect(done["overall_status"] == "ALL hosts done. 0 errors.")
        #expect(done["num_hosts_not_run"] == 0 && done["num_hosts"] == done["num_hosts_done"])
        #expect(done["total_instances"] == 1)
        #expect(done["log"]?["kvm9"]?["state"] == "DONE" && done["log"]?["kvm9"]?["instances"] == 1)
        let last = try await show("", "instance_usage_audit_logs")
        #expect(last["period_ending"] != "2020-02-01 00:00:00" && last["num_hosts_done"] == 0)
    }

    @Test("A time that is none is refused", arguments: ["yesterday", "2020-02-30%2000:00:00", "2020-02-01", "1"])
    func refused(time: String) async throws {
        let cloud = try await ComputeFixture()
        let path = "os-instance_usage_audit_log/\(time)"
        #expect(try await cloud.get(path, version: "2.1", as: "admin").status == 400)
        #expect(try await cloud.get(path, version: "2.1", as: "member").status == 403)
    }
}
