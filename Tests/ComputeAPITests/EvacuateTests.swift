import Database
import Foundation
import HTTP
import Model
import Tasks
import Testing

@testable import ComputeAPI

@Suite("Evacuation by the API")
struct EvacuateTests {
    private static let evacuate: JSON = ["evacuate": [:]]

    @Test("A host that is silent, or that beats, is not left: 400 says what is wanted", arguments: [true, false])
    func withoutEvidence(isUp: Bool) async throws {
        let cloud = try await ComputeFixture()
        let server = try await cloud.placed()
        if !isUp { cloud.clock.advance(by: .seconds(3_600)) }
        let reply = try await cloud.act(server, Self.evacuate, version: "2.80", as: "admin")
        #expect(reply.status == 400)
        #expect(reply.message.contains(isUp ? "still in use" : "no evidence"), "\(reply.message)")
        #expect(reply.message.contains("openstack compute service set --down kvm1 nova-compute"))
        #expect(reply.message.contains("apus host confirm-dead kvm1 --evidence"))
        #expect(try await cloud.database.instances.find(server.id) == server)
        #expect(try await cloud.database.evacuations.hosts().isEmpty)
    }

    @Test(
        "A host that is declared down, or confirmed dead, is left: task, migration, action and evidence are written",
        arguments: [true, false])
    func accepted(isForcedDown: Bool) async throws {
        let cloud = try await ComputeFixture()
        let server = try await cloud.placed()
        try await cloud.kill("kvm1", isForcedDown: isForcedDown)
        let reply = try await cloud.act(server, Self.evacuate, version: "2.80", as: "admin")
        #expect(reply.status == 200 && reply.response.bytes.isEmpty)
        let after = try #require(try await cloud.database.instances.find(server.id))
        #expect(after.taskState == .rebuilding && after.status == .rebuild && after.host == HostName("kvm1"))
        let move = try #require(after.move)
        #expect(move.type == .evacuation && move.source == HostName("kvm1") && move.formerVMState == .active)
        let migration = try #require(try await cloud.database.migrations.find(move.migration))
        #expect(migration.type == .evacuation && migration.status == .accepted)
        let evidence = try #require(try await cloud.database.evacuations.list(from: HostName("kvm1")).first)
        #expect(evidence.generation == after.fence.generation && evidence.sharesDisks == nil)
        #expect(evidence.instance == server.id && evidence.migration == migration.id)
        let state = try await cloud.moveState(of: server, kind: TaskKind.evacuate)
        #expect(state.migration == migration.id && state.requestedHost == nil)
        #expect(state.evacuation?.sharesDisks == nil && state.evacuation?.isForced == false)
        #expect(try await cloud.database.actions.list(server.id).contains { $0.kind == .evacuate })
        // Once: and there is nothing to confirm, and no way back.
        for action in ["evacuate", "confirmResize", "revertResize"] {
            let body: JSON = .object([action: action == "evacuate" ? [:] : .null])
            #expect(try await cloud.act(server, body, version: "2.80", as: "admin").status == 409, "\(action)")
        }
        let listed = try await cloud.get("os-migrations?migration_type=evacuation", version: "2.80", as: "admin")
        #expect(listed.json["migrations"]?.list?.first?["status"]?.text == "accepted")
    }

    @Test("An evacuation that failed in ERROR cannot be taken back, and can be asked for again")
    func again() async throws {
        let cloud = try await ComputeFixture()
        let server = try await cloud.placed { ($0.vmState, $0.taskState) = (.error, .rebooting) }
        try await cloud.kill("kvm1")
        #expect(try await cloud.act(server, ["revertResize": .null], as: "admin").status == 409)
        #expect(try await cloud.act(server, Self.evacuate, version: "2.80", as: "admin").status == 200)
        #expect(try await cloud.database.instances.find(server.id)?.move?.formerVMState == .active)
    }

    @Test(
        "Each version has its own words",
        arguments: [
            ("2.13", #"{"onSharedStorage":"False"}"#, 200), ("2.13", #"{}"#, 400),
            ("2.13", #"{"onSharedStorage":true,"adminPass":"x"}"#, 400),
            ("2.13", #"{"onSharedStorage":true,"force":true}"#, 400),
            ("2.14", #"{"onSharedStorage":true}"#, 400), ("2.14", #"{"adminPass":"x"}"#, 200),
            ("2.28", #"{"force":true,"host":"kvm2"}"#, 400), ("2.29", #"{"force":true,"host":"kvm2"}"#, 200),
            ("2.29", #"{"force":true}"#, 400), ("2.67", #"{"force":false}"#, 200), ("2.68", #"{"force":false}"#, 400),
            ("2.80", #"{"host":"kvm1"}"#, 400), ("2.80", #"{"host":"kvm9"}"#, 400), ("2.80", #"{"host":"kvm2"}"#, 200),
            ("2.80", #"{"more":1}"#, 400), ("2.80", "null", 400), ("2.95", #"{}"#, 200),
        ])
    func versions(version: String, body: String, status: Int) async throws {
        let cloud = try await ComputeFixture()
        let server = try await cloud.placed()
        try await cloud.kill("kvm1")
        let argument = try JSON(parsing: Array(body.utf8))
        let reply = try await cloud.act(server, ["evacuate": argument], version: version, as: "admin")
        #expect(reply.status == status, "\(reply.message)")
        guard status == 200 else { return #expect(try await cloud.database.instances.find(server.id) == server) }
        #expect((reply.json["adminPass"]?.text != nil) == (version == "2.13"))
        let state = try await cloud.moveState(of: server, kind: TaskKind.evacuate)
        #expect(state.requestedHost?.rawValue == argument["host"]?.text)
        #expect(state.evacuation?.isForced == (argument["force"]?.boolean == true))
        #expect(state.evacuation?.sharesDisks == (version == "2.13" ? false : nil))
        // From 2.95 on what was evacuated stays off.
        let move = try await cloud.database.instances.find(server.id)?.move
        #expect(move?.formerVMState == (version == "2.95" ? .stopped : .active))
    }

    @Test("What a server is refused for", arguments: ["paused", "moved", "tpm", "deleting"])
    func refused(what: String) async throws {
        let cloud = try await ComputeFixture()
        let server = try await cloud.placed { instance in
            switch what {
            case "paused": instance.vmState = .paused
            case "moved":
                instance.vmState = .error
                instance.move = PendingMove(
                    migration: MigrationID(UUID().uuidString.lowercased()), type: .resize, source: HostName("kvm2"),
                    formerFlavor: instance.flavor, formerVMState: .active)
            case "tpm": instance.flavor.extraSpecs["hw:tpm_version"] = "2.0"
            default: instance.taskState = .deleting
            }
        }
        try await cloud.kill("kvm1")
        let reply = try await cloud.act(server, Self.evacuate, version: "2.80", as: "admin")
        #expect(reply.status == (what == "tpm" ? 400 : 409), "\(reply.message)")
        #expect(try await cloud.database.instances.find(server.id) == server)
    }

    @Test(
        "An operator's word that a host is dead is kept with its evidence, refused of one that is heard, and for others"
    )
    func confirmDead() async throws {
        let cloud = try await ComputeFixture()
        try await cloud.addHost()
        let body: JSON = ["confirm_dead": ["evidence": "the rack has no power"]]
        #expect(await cloud.confirmDead("kvm1", body, as: "member").status == 403)
        #expect(await cloud.confirmDead("kvm1", body).status == 409)
        #expect(await cloud.confirmDead("kvm9", body).status == 404)
        cloud.clock.advance(by: .seconds(3_600))
        for wrong in [["confirm_dead": [:]], ["confirm_dead": ["evidence": " "]], [:]] as [JSON] {
            #expect(await cloud.confirmDead("kvm1", wrong).status == 400)
        }
        let reply = await cloud.confirmDead("kvm1", body)
        #expect(reply.status == 200 && reply.json["host"]?["dead_evidence"]?.text == "the rack has no power")
        let service = try await cloud.database.services.find(host: HostName("kvm1"), binary: "nova-compute")
        #expect(service?.isKnownDead == true && service?.isForcedDown == false)
        let shown = await cloud.send(cloud.admin, .get, "/hosts/kvm1", as: "p1/admin")
        #expect(shown.json["host"]?["service"]?["dead_evidence"]?.text == "the rack has no power", "\(shown.json)")
        // Heard of again it is not dead any more.
        try await cloud.addHost()
        #expect(
            try await cloud.database.services.find(host: HostName("kvm1"), binary: "nova-compute")?.isKnownDead == false
        )
    }
}

extension ComputeFixture {
    fileprivate func kill(_ host: String, isForcedDown: Bool = true) async throws {
        let service = try #require(
            try await database.services.find(host: HostName(host), binary: "nova-compute"))
        if isForcedDown {
            _ = try await database.services.change(uuid: service.uuid, isForcedDown: true)
        } else {
            clock.advance(by: .seconds(3_600))
            _ = try await database.services.confirmDead(
                service.host, evidence: "no power", downAfter: .seconds(60), now: clock.now)
        }
    }

    fileprivate func confirmDead(_ host: String, _ body: JSON, as role: String = "admin") async -> Reply {
        await send(admin, .post, "/hosts/\(host)/confirm-dead", as: "p1/\(role)", body)
    }
}
