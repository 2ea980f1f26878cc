import Database
import Foundation
import HTTP
import Model
import Tasks
import Testing

@testable import ComputeAPI

@Suite("Resize and migration by the API")
struct MoveTests {
    @Test("A resize is accepted with its flavor, its way back, its task and its migration's record")
    func resized() async throws {
        let cloud = try await ComputeFixture()
        let server = try await cloud.placed()
        let answer = try await cloud.act(server, ["resize": ["flavorRef": "2"]])
        #expect(answer.status == 202)
        let after = try #require(try await cloud.database.instances.find(server.id))
        #expect(after.taskState == .resizePrep && after.status == .resize && after.flavor == server.flavor)
        let move = try #require(after.move)
        #expect(move.source == HostName("kvm1") && move.formerVMState == .active && move.formerFlavor == server.flavor)
        let rows = try await cloud.database.tasks.list(instance: server.id, unfinishedOnly: true, limit: 10)
        let row = try #require(rows.first { $0.kind == TaskKind.move })
        let state = try JSONDecoder().decode(MoveTaskState.self, from: Data(row.state))
        #expect(state.newFlavor?.id == FlavorID("2") && state.migration == move.migration && !state.mayStay)
        let migration = try #require(try await cloud.database.migrations.find(move.migration))
        #expect(migration.status == .preMigrating && migration.type == .resize && migration.newFlavor == FlavorID("2"))
        // Two at once: the second is refused.
        #expect(try await cloud.act(server, ["migrate": .null], as: "admin").status == 409)
    }

    @Test(
        "What cannot be the server's flavor is refused before anything changes",
        arguments: [
            (#"{"resize":{"flavorRef":"nothing"}}"#, "could not be found"), (#"{"resize":{"flavorRef":""}}"#, ""),
            (#"{"resize":{"flavorRef":"1"}}"#, "must change flavor"),
            (#"{"resize":{"flavorRef":"84"}}"#, "resize disk down"), (#"{"resize":{}}"#, "flavorRef"),
            (#"{"resize":{"flavorRef":"2","more":1}}"#, "more"), (#"{"resize":null}"#, ""),
        ])
    func refused(body: String, said: String) async throws {
        let cloud = try await ComputeFixture()
        let server = try await cloud.placed { instance in
            instance.flavor.rootGiB = 10
        }
        let answer = try await cloud.act(server, try JSON(parsing: Array(body.utf8)))
        #expect(answer.status == 400)
        #expect(said.isEmpty || answer.message.contains(said), "\(answer.message)")
        #expect(try await cloud.database.instances.find(server.id) == server)
    }

    @Test("Only the increase counts for the quota")
    func quota() async throws {
        let cloud = try await ComputeFixture(
            settings: APISettings(quotas: .init(instances: 1, cores: 1, memoryMiB: 2_048)))
        let server = try await cloud.placed()
        // 2,048 MiB in place of 512: just what there may be.
        #expect(try await cloud.act(server, ["resize": ["flavorRef": "2"]]).status == 202)
        let second = try await ComputeFixture(
            settings: APISettings(quotas: .init(instances: 1, cores: 1, memoryMiB: 2_047)))
        let other = try await second.placed()
        let answer = try await second.act(other, ["resize": ["flavorRef": "2"]])
        #expect(answer.status == 403 && answer.message.contains("ram"))
    }

    @Test("Cores count, too, and a server that takes more than there may be can become smaller")
    func quotaOfCores() async throws {
        let cloud = try await ComputeFixture(settings: APISettings(quotas: .init(instances: 1, cores: 1)))
        let answer = try await cloud.act(try await cloud.placed(), ["resize": ["flavorRef": "3"]])
        #expect(answer.status == 403 && answer.message.contains("cores") && !answer.message.contains("ram"))
        let full = try await ComputeFixture(
            settings: APISettings(quotas: .init(instances: 1, cores: 1, memoryMiB: 1_024)))
        let server = try await full.placed { $0.flavor.memoryMiB = 4_096 }
        #expect(try await full.act(server, ["resize": ["flavorRef": "2"]]).status == 202)
    }

    @Test("A resize may stay on its host where the cloud says so, a migration never", arguments: [true, false])
    func sameHost(allowed: Bool) async throws {
        var settings = APISettings(operationPatience: .zero)
        settings.mayResizeToSameHost = allowed
        for (body, mayStay) in [(["resize": ["flavorRef": "2"]] as JSON, allowed), (["migrate": .null], false)] {
            let cloud = try await ComputeFixture(settings: settings)
            let server = try await cloud.placed()
            #expect(try await cloud.act(server, body, as: "admin").status == 202)
            #expect(try await cloud.moveState(of: server).mayStay == mayStay)
        }
    }

    @Test("A manager may migrate, only an administrator says where to, and null is nowhere in particular")
    func roles() async throws {
        let cloud = try await ComputeFixture()
        let server = try await cloud.placed()
        let named: JSON = ["migrate": ["host": "kvm2"]]
        #expect(try await cloud.act(server, ["migrate": .null]).status == 403)
        #expect(try await cloud.act(server, named, version: "2.56", as: "manager").status == 403)
        #expect(try await cloud.database.instances.find(server.id) == server)
        let unnamed: JSON = ["migrate": ["host": .null]]
        #expect(try await cloud.act(server, unnamed, version: "2.56", as: "manager").status == 202)
        let state = try await cloud.moveState(of: server)
        #expect(state.requestedHost == nil && state.newFlavor == nil)
    }

    @Test("A migration may name a host that is there, up, enabled and another one")
    func hosts() async throws {
        let cloud = try await ComputeFixture()
        let server = try await cloud.placed()
        for (host, status) in [("kvm9", 400), ("kvm1", 400), ("kvm2", 202)] {
            let body: JSON = ["migrate": ["host": .string(host)]]
            #expect(try await cloud.act(server, body, version: "2.56", as: "admin").status == status, "\(host)")
        }
        let rows = try await cloud.database.tasks.list(instance: server.id, unfinishedOnly: true, limit: 10)
        let row = try #require(rows.first { $0.kind == TaskKind.move })
        let state = try JSONDecoder().decode(MoveTaskState.self, from: Data(row.state))
        #expect(state.requestedHost == HostName("kvm2") && state.newFlavor == nil)
        // Before 2.56 there is no such argument.
        let other = try await cloud.placed(name: "other")
        let body: JSON = ["migrate": ["host": "kvm2"]]
        #expect(try await cloud.act(other, body, version: "2.55", as: "admin").status == 400)
    }

    @Test("What is decided of a move is written down, once")
    func decided() async throws {
        for (name, status, kind) in [
            ("confirmResize", 204, TaskKind.confirmMove), ("revertResize", 202, TaskKind.revertMove),
        ] {
            let cloud = try await ComputeFixture()
            let server = try await cloud.placed { instance in
                instance.vmState = .resized
                instance.move = PendingMove(
                    migration: MigrationID(UUID().uuidString.lowercased()), type: .migration, source: HostName("kvm2"),
                    formerFlavor: instance.flavor, formerVMState: .active)
            }
            #expect(try await cloud.act(server, [name: .null]).status == status)
            let rows = try await cloud.database.tasks.list(instance: server.id, unfinishedOnly: true, limit: 10)
            #expect(rows.map(\.kind).filter { $0 != TaskKind.build } == [kind])
            #expect(try await cloud.act(server, [name: .null]).status == 409)
        }
    }

    @Test("A move that is decided has the status of it; what is decided is that very move")
    func decidedMigration() async throws {
        for (name, kind, status) in [
            ("confirmResize", TaskKind.confirmMove, MigrationStatus.confirming),
            ("revertResize", TaskKind.revertMove, .reverting),
        ] {
            let cloud = try await ComputeFixture()
            let server = try await cloud.resized()
            #expect(server.status == .verifyResize)
            let migration = try #require(server.move?.migration)
            #expect(try await cloud.act(server, [name: ["more": 1]]).status == 400)
            #expect(try await cloud.act(server, [name: [:]]).status / 100 == 2)
            #expect(try await cloud.database.migrations.find(migration)?.status == status)
            let state = try await cloud.moveState(of: server, kind: kind)
            #expect(state.migration == migration && state.instance == server.id)
            // The conductor needs it until the end.
            #expect(try await cloud.database.instances.find(server.id)?.move?.migration == server.move?.migration)
        }
    }

    @Test("Nothing is decided while the source is down, of a server that is not resized, or of one without a move")
    func undecided() async throws {
        for name in ["confirmResize", "revertResize"] {
            let cloud = try await ComputeFixture()
            let server = try await cloud.resized()
            cloud.clock.advance(by: .seconds(60))
            try await cloud.addHost("kvm2", uuid: "7f9619ff-8b86-4011-b42d-00c04fc964ff")
            let reply = try await cloud.act(server, [name: .null])
            #expect(reply.status == 409 && reply.message.contains("kvm1"), "\(reply.message)")
            #expect(try await cloud.database.instances.find(server.id) == server)
            let migration = try #require(server.move?.migration)
            #expect(try await cloud.database.migrations.find(migration)?.status == .finished)
            let active = try await cloud.placed(name: "active")
            #expect(try await cloud.act(active, [name: .null]).status == 409)
            let lost = try await cloud.placed(name: "lost") { $0.vmState = .resized }
            #expect(try await cloud.act(lost, [name: .null]).status == 409)
            #expect(try await cloud.database.instances.find(lost.id) == lost)
        }
    }

    @Test("What has been decided of a move is not decided otherwise, however often it is asked")
    func decidedOnce() async throws {
        for (first, other) in [("confirmResize", "revertResize"), ("revertResize", "confirmResize")] {
            let cloud = try await ComputeFixture()
            let server = try await cloud.resized()
            #expect(try await cloud.act(server, [first: .null]).status < 300)
            // It failed on its host.
            _ = try await cloud.database.instances.update(server.id, now: cloud.clock.now) { $0.taskState = nil }
            let refusal = try await cloud.act(server, [other: .null])
            #expect(refusal.status == 409 && refusal.message.contains("ask for that again"), "\(refusal.message)")
            #expect(try await cloud.act(server, [first: .null]).status < 300)
        }
    }

    @Test("A reset of the state leaves what there is to go back to")
    func reset() async throws {
        // One that is done is still to be confirmed or taken back.
        for (state, status) in [("active", VMState.resized), ("error", .error)] {
            let cloud = try await ComputeFixture()
            let server = try await cloud.resized()
            let body: JSON = ["os-resetState": ["state": .string(state)]]
            #expect(try await cloud.act(server, body, as: "admin").status == 202)
            let after = try #require(try await cloud.database.instances.find(server.id))
            #expect(after.vmState == status && after.taskState == nil && after.move == server.move)
            let migration = try #require(server.move?.migration)
            #expect(try await cloud.database.migrations.find(migration)?.status == .finished)
        }
    }

    @Test(
        "A server is deleted wherever its move is, and the conductor is told of both hosts",
        arguments: [nil, .resizePrep, .resizeMigrating, .resizeFinish, .resizeReverting] as [TaskState?])
    func deleted(taskState: TaskState?) async throws {
        let cloud = try await ComputeFixture()
        let server = try await cloud.resized(taskState)
        #expect(await cloud.send(.delete, "servers/\(server.id)").status == 204)
        let after = try #require(try await cloud.database.instances.find(server.id))
        #expect(after.taskState == .deleting && after.move == server.move)
        #expect(after.move?.hosts(besides: after.host) == [HostName("kvm1")])
        #expect(try await cloud.newest(of: server).kind == TaskKind.delete)
    }

    @Test(
        "Deleted servers are kept for a while, but not one whose guest is between two hosts",
        arguments: [
            (VMState.resized, nil, true), (.active, .resizePrep, nil), (.resized, .resizeConfirming, nil),
            (.active, .resizeMigrating, false), (.stopped, .resizeFinish, false), (.resized, .resizeReverting, false),
            (.error, nil, false),
        ] as [(VMState, TaskState?, Bool?)])
    func deletedSoftly(vmState: VMState, taskState: TaskState?, isKept: Bool?) async throws {
        let cloud = try await ComputeFixture(
            settings: APISettings(reclaimInterval: .seconds(60), operationPatience: .zero))
        let server = try await cloud.resized(taskState, vmState)
        let answer = await cloud.send(.delete, "servers/\(server.id)")
        guard let isKept else { return #expect(answer.status == 409) }
        #expect(answer.status == 204)
        let after = try #require(try await cloud.database.instances.find(server.id))
        #expect(after.taskState == (isKept ? .softDeleting : .deleting) && after.move == server.move)
        #expect(try await cloud.newest(of: server).kind == (isKept ? TaskKind.guest : TaskKind.delete))
    }

    @Test("A compute service stays while anything is on its way from its host or to it")
    func services() async throws {
        let cloud = try await ComputeFixture()
        let server = try await cloud.resized()
        let migration = try #require(server.move?.migration)
        func delete(_ host: String) async throws -> ComputeFixture.Reply {
            let service = try await cloud.database.services.find(host: HostName(host), binary: "nova-compute")
            let uuid = try #require(service?.uuid)
            return await cloud.send(.delete, "os-services/\(uuid)", as: "p0/admin", at: "2.53")
        }
        // The server is on kvm2 and waits to be confirmed: kvm1 has its way back.
        let refused = try await delete("kvm1")
        #expect(refused.status == 409 && refused.message.contains("in-progress migrations"), "\(refused.message)")
        #expect(try await cloud.database.hosts.find(HostName("kvm1")) != nil)
        _ = try await cloud.database.instances.update(
            server.id, now: cloud.clock.now, migrations: [.status(migration, .confirmed)]
        ) { $0.move = nil }
        #expect(try await delete("kvm1").status == 204)
        // One that is only just on its way to a host counts there.
        let other = try await cloud.placed(name: "other")
        #expect(try await cloud.act(other, ["migrate": .null], as: "admin").status == 202)
        let onItsWay = try #require(try await cloud.database.instances.find(other.id)?.move?.migration)
        let third = HostName("kvm3")
        try await cloud.addHost("kvm3", uuid: "8f9619ff-8b86-4011-b42d-00c04fc964ff")
        _ = try await cloud.database.instances.update(
            other.id, now: cloud.clock.now, migrations: [.change(onItsWay) { $0.destinationHost = third }]
        ) { _ in }
        #expect(try await delete("kvm3").status == 409)
        _ = try await cloud.database.instances.update(
            other.id, now: cloud.clock.now, migrations: [.status(onItsWay, .error)]
        ) { _ in }
        #expect(try await delete("kvm3").status == 204)
    }

    @Test("The list of migrations says as much as the version, and is filtered and paged")
    func list() async throws {
        let cloud = try await ComputeFixture()
        let first = try await cloud.placed()
        let second = try await cloud.placed(name: "second")
        for server in [first, second] { _ = try await cloud.act(server, ["migrate": .null], as: "admin") }
        func list(_ query: String, _ version: String = "2.80") async throws -> [JSON] {
            let answer = try await cloud.get("os-migrations" + query, version: version, as: "admin")
            #expect(answer.status == 200, "\(query): \(answer.message)")
            return answer.json["migrations"]?.list ?? []
        }
        let all = try await list("")
        #expect(all.map { $0["instance_uuid"]?.text } == [second.id.rawValue, first.id.rawValue])
        let newest = try #require(all.first)
        #expect(newest["migration_type"] == "migration" && newest["status"] == "pre-migrating")
        #expect(newest["source_compute"] == "kvm1" && newest["dest_compute"] == .null)
        #expect(newest["project_id"] == "p1" && newest["uuid"]?.text != nil)
        let old = try #require(try await list("", "2.1").first)
        #expect(old["uuid"] == nil && old["migration_type"] == nil && old["user_id"] == nil)
        #expect(old["id"]?.int != nil && old["old_instance_type_id"]?.int != nil)
        for (query, count) in [
            ("?instance_uuid=\(first.id)", 1), ("?host=kvm1", 2), ("?host=kvm2", 0), ("?status=pre-migrating", 2),
            ("?status=error", 0), ("?status=nonsense", 0), ("?migration_type=resize", 0), ("?limit=1", 1),
            ("?source_compute=kvm1", 2), ("?project_id=p1", 2), ("?project_id=p9", 0),
        ] {
            #expect(try await list(query).count == count, "\(query)")
        }
        let page = try await cloud.get("os-migrations?limit=1", version: "2.59", as: "admin")
        let next = page.json["migrations_links"]?.list?.first?["href"]?.text
        let marker = try #require(next?.split(separator: "marker=").last.map(String.init))
        #expect(try await list("?limit=1&marker=\(marker)").first?["instance_uuid"]?.text == first.id.rawValue)
        for bad in ["?limit=x", "?marker=11111111-2222-4333-8444-555555555555", "?instance_uuid=x", "?more=1"] {
            #expect(try await cloud.get("os-migrations" + bad, version: "2.80", as: "admin").status == 400, "\(bad)")
        }
        // A cold one is none of those that a server's migrations show.
        let live = try await cloud.get("servers/\(first.id)/migrations", version: "2.80", as: "admin")
        #expect(live.json["migrations"]?.list == [])
        #expect(
            try await cloud.get("servers/\(first.id)/migrations/1", version: "2.80", as: "admin").status == 404)
    }
}

extension ComputeFixture {
    /// A server of 512 MiB that runs on the first of two hosts.
    func placed(
        name: String = "web", change: @escaping @Sendable (inout Instance) -> Void = { _ in }
    ) async throws -> Instance {
        try await addHost()
        try await addHost("kvm2", uuid: "7f9619ff-8b86-4011-b42d-00c04fc964ff")
        let id = try await makeActive(["flavorRef": "1", "name": .string(name)])
        return try await database.instances.update(InstanceID(id), now: clock.now, change: change)
    }

    /// One that was resized from the first host to the second, and waits to be confirmed, or is where the states say.
    func resized(_ taskState: TaskState? = nil, _ vmState: VMState = .resized) async throws -> Instance {
        let server = try await placed()
        #expect(try await act(server, ["resize": ["flavorRef": "2"]]).status == 202)
        let migration = try #require(try await database.instances.find(server.id)?.move?.migration)
        let (now, destination) = (clock.now, HostName("kvm2"))
        return try await database.instances.update(
            server.id, now: now,
            migrations: [
                .change(migration) {
                    ($0.status, $0.destinationHost) = (taskState == nil ? .finished : .migrating, destination)
                }
            ]
        ) { instance in
            (instance.vmState, instance.taskState, instance.host) = (vmState, taskState, destination)
            instance.move?.destination = destination
            if taskState == nil { instance.move?.finishedAt = now }
        }
    }

    func newest(of server: Instance) async throws -> TaskRow {
        let rows = try await database.tasks.list(instance: server.id, unfinishedOnly: true, limit: 10)
        return try #require(rows.max { $0.generation < $1.generation })
    }

    func moveState(of server: Instance, kind: String = TaskKind.move) async throws -> MoveTaskState {
        let rows = try await database.tasks.list(instance: server.id, unfinishedOnly: true, limit: 10)
        let row = try #require(rows.first { $0.kind == kind })
        return try JSONDecoder().decode(MoveTaskState.self, from: Data(row.state))
    }

    func act(
        _ server: Instance, _ body: JSON, version: String? = nil, as role: String = "member"
    ) async throws -> Reply {
        await send(.post, "servers/\(server.id)/action", as: "p1/\(role)", at: version, body)
    }

    func get(_ path: String, version: String, as role: String) async throws -> Reply {
        await send(.get, path, as: "p1/\(role)", at: version)
    }
}
