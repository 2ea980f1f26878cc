import Database
import HTTP
import Model
import RPC
import Synchronization
import Tasks
import Testing

@testable import ComputeAPI

@Suite("Live migration by the API")
struct LiveMigrationTests {
    private static let unnamed: JSON = ["os-migrateLive": ["host": .null, "block_migration": "auto"]]

    private static func named(_ host: String) -> JSON {
        ["os-migrateLive": ["host": .string(host), "block_migration": "auto"]]
    }

    @Test("It is accepted with its task, its migration's record and its action; the server is where it was")
    func accepted() async throws {
        let cloud = try await ComputeFixture()
        let server = try await cloud.placed()
        #expect(try await cloud.act(server, Self.unnamed, version: "2.100", as: "admin").status == 202)
        let after = try #require(try await cloud.database.instances.find(server.id))
        #expect(after.taskState == .migrating && after.status == .migrating && after.host == server.host)
        #expect(after.vmState == .active && after.progress == 0 && after.flavor == server.flavor)
        let move = try #require(after.move)
        #expect(move.type == .liveMigration && move.source == HostName("kvm1") && move.formerVMState == .active)
        let migration = try #require(try await cloud.database.migrations.find(move.migration))
        #expect(migration.status == .queued && migration.type == .liveMigration && migration.destinationHost == nil)
        #expect(migration.newFlavor == server.flavor.id && migration.userID == UserID("u-p1"))
        let state = try await cloud.moveState(of: server, kind: TaskKind.liveMigrate)
        #expect(state.migration == migration.id && state.requestedHost == nil && state.isForced == false)
        #expect(state.request == LiveRequest())
        let actions = try await cloud.database.actions.list(server.id)
        let action = try #require(actions.first { $0.kind == .liveMigration })
        #expect(action.finishedAt == nil)
        // Two at once: the second is refused.
        #expect(try await cloud.act(server, Self.unnamed, version: "2.100", as: "admin").status == 409)
        #expect(try await cloud.act(server, ["migrate": .null], as: "admin").status == 409)
        let shown = await cloud.send(.get, "servers/\(server.id)", as: "p1/admin")
        #expect(shown.json["server"]?["status"] == "MIGRATING" && shown.json["server"]?["progress"] == 0)
        #expect(shown.json["server"]?["OS-EXT-SRV-ATTR:host"] == "kvm1")
    }

    @Test("A paused server is migrated, one that is off is not")
    func states() async throws {
        for (vmState, status) in [(VMState.paused, 202), (.stopped, 409), (.suspended, 409), (.error, 409)] {
            let cloud = try await ComputeFixture()
            let server = try await cloud.placed { $0.vmState = vmState }
            let reply = try await cloud.act(server, Self.unnamed, version: "2.25", as: "admin")
            #expect(reply.status == status, "\(vmState): \(reply.message)")
            guard status == 202 else {
                #expect(reply.message.hasPrefix("Cannot 'os-migrateLive' instance"))
                continue
            }
            #expect(try await cloud.database.instances.find(server.id)?.move?.formerVMState == .paused)
        }
    }

    /// A body at a version, and what it means: whether the disks go along, whether the host is forced; `nil` where it is
    /// refused.
    struct Form: Sendable, CustomTestStringConvertible {
        var version: String
        var body: String
        var meaning: (block: Bool?, isForced: Bool)?

        var testDescription: String { "\(version) \(body)" }
    }

    private static let forms: [Form] = [
        Form(
            version: "2.1", body: #"{"host":null,"block_migration":true,"disk_over_commit":false}"#,
            meaning: (true, false)),
        Form(
            version: "2.24", body: #"{"host":"kvm2","block_migration":"False","disk_over_commit":true}"#,
            meaning: (false, true)),
        Form(version: "2.24", body: #"{"host":null,"block_migration":"auto","disk_over_commit":false}"#, meaning: nil),
        Form(version: "2.24", body: #"{"host":null,"block_migration":true}"#, meaning: nil),
        Form(version: "2.25", body: #"{"host":null,"block_migration":"auto"}"#, meaning: (nil, false)),
        Form(version: "2.25", body: #"{"host":"kvm2","block_migration":false}"#, meaning: (false, true)),
        Form(version: "2.25", body: #"{"host":null,"block_migration":true,"disk_over_commit":false}"#, meaning: nil),
        Form(version: "2.25", body: #"{"host":null,"block_migration":"sometimes"}"#, meaning: nil),
        Form(version: "2.29", body: #"{"host":"kvm2","block_migration":true,"force":true}"#, meaning: nil),
        Form(version: "2.30", body: #"{"host":"kvm2","block_migration":true,"force":true}"#, meaning: (true, true)),
        Form(version: "2.30", body: #"{"host":"kvm2","block_migration":true}"#, meaning: (true, false)),
        Form(version: "2.30", body: #"{"host":null,"block_migration":true,"force":true}"#, meaning: nil),
        Form(version: "2.34", body: #"{"host":"kvm2","block_migration":"auto"}"#, meaning: (nil, false)),
        Form(version: "2.67", body: #"{"host":"kvm2","block_migration":"auto","force":"true"}"#, meaning: (nil, true)),
        Form(version: "2.68", body: #"{"host":"kvm2","block_migration":"auto","force":true}"#, meaning: nil),
        Form(version: "2.68", body: #"{"host":"kvm2","block_migration":"auto"}"#, meaning: (nil, false)),
        Form(version: "2.100", body: #"{"block_migration":"auto"}"#, meaning: nil),
        Form(version: "2.100", body: #"{"host":null}"#, meaning: nil),
        Form(version: "2.100", body: #"{"host":"","block_migration":"auto"}"#, meaning: nil),
        Form(version: "2.100", body: "null", meaning: nil),
    ]

    @Test("The body grows and shrinks with the version", arguments: forms)
    func bodies(form: Form) async throws {
        let cloud = try await ComputeFixture()
        let server = try await cloud.placed()
        let argument = try JSON(parsing: Array(form.body.utf8))
        let reply = try await cloud.act(server, ["os-migrateLive": argument], version: form.version, as: "admin")
        guard let meaning = form.meaning else {
            #expect(reply.status == 400)
            return try await expectNothing(cloud, server)
        }
        #expect(reply.status == 202, "\(reply.message)")
        let state = try await cloud.moveState(of: server, kind: TaskKind.liveMigrate)
        #expect(state.request?.isBlockMigration == meaning.block && state.isForced == meaning.isForced)
    }

    @Test("A manager may migrate, and only an administrator says where to")
    func roles() async throws {
        let cloud = try await ComputeFixture()
        let server = try await cloud.placed()
        #expect(try await cloud.act(server, Self.unnamed, version: "2.68").status == 403)
        let refusal = try await cloud.act(server, Self.named("kvm2"), version: "2.68", as: "manager")
        #expect(refusal.status == 403 && refusal.message.contains("os-migrate-server:migrate_live:host"))
        try await expectNothing(cloud, server)
        #expect(try await cloud.act(server, Self.unnamed, version: "2.68", as: "manager").status == 202)
    }

    @Test("A host that is named must be there, another one, and up; enabled where it is not forced")
    func hosts() async throws {
        let cloud = try await ComputeFixture()
        let server = try await cloud.placed()
        for (host, said) in [("kvm9", "kvm9"), ("kvm1", "to current host")] {
            let reply = try await cloud.act(server, Self.named(host), version: "2.68", as: "admin")
            #expect(reply.status == 400 && reply.message.contains(said), "\(reply.message)")
        }
        let service = try await cloud.database.services.find(host: HostName("kvm2"), binary: "nova-compute")
        let uuid = try #require(service?.uuid)
        _ = try await cloud.database.services.change(uuid: uuid, isDisabled: true)
        let refusal = try await cloud.act(server, Self.named("kvm2"), version: "2.68", as: "admin")
        #expect(refusal.status == 400 && refusal.message == "Compute host kvm2 is disabled or down.")
        try await expectNothing(cloud, server)
        let forced: JSON = ["os-migrateLive": ["host": "kvm2", "block_migration": "auto", "force": true]]
        #expect(try await cloud.act(server, forced, version: "2.67", as: "admin").status == 202)
        #expect(try await cloud.moveState(of: server, kind: TaskKind.liveMigrate).requestedHost == HostName("kvm2"))

        let other = try await ComputeFixture()
        let moving = try await other.placed()
        other.clock.advance(by: .seconds(60))
        try await other.addHost()
        let down = try await other.act(moving, forced, version: "2.67", as: "admin")
        #expect(down.status == 400 && down.message == "Compute host kvm2 is disabled or down.")
    }

    @Test("While the server's host is down it is not migrated: 409")
    func sourceDown() async throws {
        let cloud = try await ComputeFixture()
        let server = try await cloud.placed()
        cloud.clock.advance(by: .seconds(60))
        try await cloud.addHost("kvm2", uuid: "7f9619ff-8b86-4011-b42d-00c04fc964ff")
        let reply = try await cloud.act(server, Self.unnamed, version: "2.68", as: "admin")
        #expect(reply.status == 409 && reply.message.contains("is down"))
        try await expectNothing(cloud, server)
    }

    @Test(
        "A server with a TPM in software, or a device of its host, is not migrated while it runs",
        arguments: [
            ("hw:tpm_version", "2.0", "vTPM"), ("pci_passthrough:alias", "gpu:1", "PCI devices"),
            ("resources:VGPU", "1", "virtual GPUs"),
        ])
    func devices(spec: String, value: String, said: String) async throws {
        let cloud = try await ComputeFixture()
        let server = try await cloud.placed { $0.flavor.extraSpecs[spec] = value }
        let reply = try await cloud.act(server, Self.unnamed, version: "2.68", as: "admin")
        #expect(reply.status == 400 && reply.message.contains(said), "\(reply.message)")
        try await expectNothing(cloud, server)
    }

    @Test("A locked server is migrated by administrators only")
    func locked() async throws {
        let cloud = try await ComputeFixture()
        let server = try await cloud.placed { $0.lock = InstanceLock(holder: .owner) }
        #expect(try await cloud.act(server, Self.unnamed, version: "2.68", as: "manager").status == 409)
        #expect(try await cloud.act(server, Self.unnamed, version: "2.68", as: "admin").status == 202)
    }

    @Test("Deleted in the middle it is deleted for good, and the conductor is told of both hosts", arguments: [0, 60])
    func deleted(reclaim: Int) async throws {
        let cloud = try await ComputeFixture(
            settings: APISettings(reclaimInterval: .seconds(reclaim), operationPatience: .zero))
        let server = try await cloud.migrating(.running)
        #expect(await cloud.send(.delete, "servers/\(server.id)").status == 204)
        let after = try #require(try await cloud.database.instances.find(server.id))
        #expect(after.taskState == .deleting && after.move?.hosts(besides: after.host) == [HostName("kvm2")])
        #expect(try await cloud.newest(of: server).kind == TaskKind.delete)
    }

    @Test("A move that has nothing to confirm is neither confirmed nor taken back")
    func undecided() async throws {
        for name in ["confirmResize", "revertResize"] {
            let cloud = try await ComputeFixture()
            let server = try await cloud.migrating(.running)
            _ = try await cloud.database.instances.update(server.id, now: cloud.clock.now) {
                ($0.taskState, $0.vmState) = (nil, name == "revertResize" ? .error : .resized)
            }
            let reply = try await cloud.act(server, .object([name: .null]), as: "admin")
            #expect(reply.status == 409, "\(reply.message)")
        }
    }

    @Test(
        "It is aborted while it runs, and from 2.65 on also before that: its task is told, and the action is on record",
        arguments: [
            (MigrationStatus.queued, "2.64", 400), (.preparing, "2.64", 400), (.running, "2.24", 202),
            (.queued, "2.65", 202), (.preparing, "2.65", 202), (.running, "2.65", 202),
            (.runningPostCopy, "2.65", 400), (.completed, "2.65", 400), (.failed, "2.65", 400),
        ])
    func aborted(status: MigrationStatus, version: String, answer: Int) async throws {
        let cloud = try await ComputeFixture()
        let server = try await cloud.migrating(status)
        let number = try await cloud.number(of: server)
        let path = "servers/\(server.id)/migrations/\(number)"
        let reply = await cloud.send(.delete, path, as: "p1/admin", at: version)
        #expect(reply.status == answer, "\(reply.message)")
        let task = try await cloud.database.tasks.list(instance: server.id, unfinishedOnly: true, limit: 10).first {
            $0.kind == TaskKind.liveMigrate
        }
        #expect(task?.isCancelRequested == (answer == 202))
        let actions = try await cloud.database.actions.list(server.id).filter { $0.kind == .abortLiveMigration }
        #expect(actions.count == (answer == 202 ? 1 : 0) && actions.allSatisfy { $0.finishedAt != nil })
        guard answer == 202 else {
            #expect(reply.message.contains(status.rawValue))
            return
        }
        // What is under way ends by its task.
        #expect(try await cloud.database.instances.find(server.id)?.taskState == .migrating)
        let listed = await cloud.send(.get, "servers/\(server.id)/os-instance-actions", as: "p1/admin")
        let names = listed.json["instanceActions"]?.list?.compactMap { $0["action"]?.text } ?? []
        #expect(names.contains("live_migration_cancel") && names.contains("live-migration"))
    }

    @Test(
        "Its end is forced while it runs, by the host that it comes from",
        arguments: [
            (MigrationStatus.running, nil, 202), (.preparing, nil, 400), (.runningPostCopy, nil, 400),
            (.completed, nil, 400), (.running, Failure(.conflict, "it has not begun"), 409),
            (.running, Failure(.unreachable, "host kvm1 does not answer", isRetriable: true), 503),
        ] as [(MigrationStatus, Failure?, Int)])
    func forced(status: MigrationStatus, failure: Failure?, answer: Int) async throws {
        let asked = Mutex<[MigrationID]>([])
        let conductor = ConductorLink(
            wake: {}, consoleOutput: { _, _ in "" }, diagnostics: { _ in ComputeFixture.diagnostics },
            topology: { _ in ComputeFixture.topology }, guestAgent: { _ in .init(isAnswering: true, milliseconds: 1) },
            crashDump: { _ in },
            forceMigration: { _, migration in
                asked.withLock { $0.append(migration) }
                if let failure { throw failure }
            },
            claims: { host, _ in throw Failure(.unreachable, "\(host)") }, forget: { _ in })
        let cloud = try await ComputeFixture(conductor: conductor)
        let server = try await cloud.migrating(status)
        let path = "servers/\(server.id)/migrations/\(try await cloud.number(of: server))/action"
        let reply = await cloud.send(.post, path, as: "p1/admin", at: "2.22", ["force_complete": .null])
        #expect(reply.status == answer, "\(reply.message)")
        #expect(asked.withLock { $0 } == (answer == 400 ? [] : [server.move?.migration].compactMap { $0 }))
        let actions = try await cloud.database.actions.list(server.id).filter { $0.kind == .forceLiveMigration }
        #expect(actions.map(\.message) == (answer == 400 ? [] : [failure == nil ? nil : "Error"]))
    }

    @Test("A cold migration is neither aborted nor forced, even while something else is migrated")
    func cold() async throws {
        let cloud = try await ComputeFixture()
        let server = try await cloud.migrating(.running)
        let cold = MigrationID("ffffffff-1111-4111-8111-111111111111")
        let record = MigrationRecord(
            id: cold, instance: server, type: .migration, status: .running, sourceHost: HostName("kvm1"),
            newFlavor: server.flavor.id, userID: server.userID, now: cloud.clock.now)
        _ = try await cloud.database.instances.update(server.id, now: cloud.clock.now, migrations: [.insert(record)]) {
            _ in
        }
        let number = try #require(try await cloud.database.migrations.find(cold)?.number)
        let path = "servers/\(server.id)/migrations/\(number)"
        #expect(await cloud.send(.delete, path, as: "p1/admin", at: "2.65").status == 400)
        let body: JSON = ["force_complete": .null]
        #expect(await cloud.send(.post, path + "/action", as: "p1/admin", at: "2.65", body).status == 400)
    }

    private func expectNothing(_ cloud: ComputeFixture, _ server: Instance) async throws {
        #expect(try await cloud.database.instances.find(server.id) == server)
        #expect(try await cloud.database.migrations.list(MigrationQuery()).isEmpty)
        #expect(try await cloud.newest(of: server).kind == TaskKind.build)
    }
}

extension ComputeFixture {
    /// A server that is on its way from the first host to the second.
    fileprivate func migrating(_ status: MigrationStatus) async throws -> Instance {
        let server = try await placed()
        let body: JSON = ["os-migrateLive": ["host": .null, "block_migration": "auto"]]
        #expect(try await act(server, body, version: "2.68", as: "admin").status == 202)
        let migration = try #require(try await database.instances.find(server.id)?.move?.migration)
        let destination = HostName("kvm2")
        return try await database.instances.update(
            server.id, now: clock.now,
            migrations: [.change(migration) { ($0.status, $0.destinationHost) = (status, destination) }]
        ) { $0.move?.destination = destination }
    }

    fileprivate func number(of server: Instance) async throws -> Int64 {
        let migration = try #require(server.move?.migration)
        return try #require(try await database.migrations.find(migration)?.number)
    }
}
