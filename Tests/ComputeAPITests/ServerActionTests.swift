import ComputeAPI
import Database
import HTTP
import Model
import RPC
import Tasks
import Testing

@Suite("Acting on servers")
struct ServerActionTests {
    @Test(
        "An accepted action sets the task state, raises the generation and leaves action and task",
        arguments: [
            (["os-stop": .null], VMState.active, TaskState.poweringOff, "stop", "stop"),
            (["os-stop": [:]], .active, .poweringOff, "stop", "stop"),
            (["os-start": .null], .stopped, .poweringOn, "start", "start"),
            (["reboot": ["type": "SOFT"]], .active, .rebooting, "reboot", "soft_reboot"),
            (["reboot": ["type": "hard"]], .stopped, .rebootingHard, "reboot", "hard_reboot"),
            (["pause": .null], .active, .pausing, "pause", "pause"),
            (["unpause": [:]], .paused, .unpausing, "unpause", "unpause"),
            (["suspend": .null], .active, .suspending, "suspend", "suspend"),
            (["resume": .null], .suspended, .resuming, "resume", "resume"),
            (["unrescue": .null], .rescued, .unrescuing, "unrescue", "unrescue"),
            (["restore": .null], .softDeleted, .restoring, "restore", "restore"),
        ] as [(JSON, VMState, TaskState, String, String)])
    func accepted(body: JSON, from: VMState, task: TaskState, action: String, change: String) async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeActive()
        try await cloud.settle(id, from)
        let reply = await cloud.send(.post, "servers/\(id)/action", body)
        #expect(reply.status == 202 && reply.response.bytes.isEmpty)
        let instance = try #require(try await cloud.instance(id))
        #expect(instance.taskState == task && instance.vmState == from)
        #expect(instance.fence == Fence(generation: 2, epoch: 0))
        let last = try await cloud.database.actions.list(InstanceID(id)).first { $0.kind != .create }
        #expect(last?.kind.rawValue == action)
        #expect(last?.requestID.rawValue == reply.response.headers["x-openstack-request-id"])
        let tasks = try await cloud.database.tasks.list(instance: InstanceID(id), unfinishedOnly: true, limit: 10)
        let power = try #require(tasks.first { $0.kind == TaskKind.guest })
        #expect(power.generation == 2)
        #expect(try TaskEngine.state(GuestTaskState.self, of: power).command.name == change)
    }

    private static let refused: [(JSON, VMState)] = [
        (["os-start": .null], .active), (["os-stop": .null], .stopped), (["reboot": ["type": "SOFT"]], .stopped),
        (["os-stop": .null], .paused), (["reboot": ["type": "HARD"]], .building),
    ]

    @Test("A state that does not admit the action is 409, and nothing changes", arguments: refused)
    func conflicts(body: JSON, state: VMState) async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeActive()
        try await cloud.settle(id, state)
        let before = try await cloud.instance(id)
        let reply = await cloud.send(.post, "servers/\(id)/action", body)
        #expect(reply.status == 409 && reply.json["conflictingRequest"] != nil)
        #expect(reply.message.contains("while it is in vm_state \(state.rawValue)"))
        #expect(try await cloud.instance(id) == before)
        #expect(try await cloud.database.actions.list(InstanceID(id)).count == 1)
    }

    @Test("A server without a host is not ready for actions")
    func notReady() async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeServer()
        for body in [["os-stop": .null], ["reboot": ["type": "HARD"]], ["os-getConsoleOutput": [:]]] as [JSON] {
            #expect(await cloud.send(.post, "servers/\(id)/action", body).status == 409)
        }
    }

    @Test(
        "What is no action is 400",
        arguments: [
            #"{"dance":null}"#, "{}", "[]", "null", "{", #"{"os-stop":null,"os-start":null}"#, #"{"os-stop":{"x":1}}"#,
            #"{"reboot":null}"#, #"{"reboot":{"type":"MILD"}}"#, #"{"reboot":{"type":"SOFT","x":1}}"#,
            #"{"os-getConsoleOutput":{"length":"x"}}"#, #"{"os-getConsoleOutput":{"lines":3}}"#,
        ])
    func malformed(body: String) async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeActive()
        #expect(await cloud.send(.post, "servers/\(id)/action", raw: body).status == 400)
    }

    @Test("Of many stops at the same time one is accepted")
    func race() async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeActive()
        let statuses = await withTaskGroup { group in
            for _ in 0..<10 {
                group.addTask { await cloud.send(.post, "servers/\(id)/action", ["os-stop": .null]).status }
            }
            return await group.reduce(into: [Int: Int]()) { $0[$1, default: 0] += 1 }
        }
        #expect(statuses == [202: 1, 409: 9])
        #expect(try await cloud.instance(id)?.fence.generation == 2)
    }

    @Test("Deleting works in every state, raises the generation, and shows deleting")
    func delete() async throws {
        let cloud = try await ComputeFixture()
        for state in [VMState.building, .active, .error, .stopped] {
            let id = try await cloud.makeActive()
            try await cloud.settle(id, state)
            #expect(await cloud.send(.delete, "servers/\(id)").status == 204)
            let shown = await cloud.send(.get, "servers/\(id)").json["server"]
            #expect(shown?["OS-EXT-STS:task_state"] == "deleting")
            let tasks = try await cloud.database.tasks.list(instance: InstanceID(id), unfinishedOnly: true, limit: 10)
            #expect(tasks.contains { $0.kind == TaskKind.delete && $0.generation == 2 })
            #expect(await cloud.send(.delete, "servers/\(id)").status == 204)
        }
    }

    private static let lengths: [(JSON, Int)] = [
        (.null, 10), ([:], 10), (["length": 3], 3), (["length": "2"], 2), (["length": -1], 10),
        (["length": .null], 10), (["length": 0], 0),
    ]

    @Test("The console gives as many lines as asked", arguments: lengths)
    func console(argument: JSON, lines: Int) async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeActive()
        let reply = await cloud.send(.post, "servers/\(id)/action", ["os-getConsoleOutput": argument])
        #expect(reply.status == 200)
        #expect(reply.json["output"]?.text?.split(separator: "\n").count == lines)
    }

    @Test("A host that cannot be reached is said so, as an error of the service")
    func unreachable() async throws {
        let conductor = ConductorLink(
            wake: {},
            consoleOutput: { _, _ in throw Failure(.unreachable, "host kvm1 does not answer", isRetriable: true) },
            diagnostics: { _ in ComputeFixture.diagnostics }, topology: { _ in ComputeFixture.topology },
            guestAgent: { _ in .init(isAnswering: true, milliseconds: 1.25) },
            crashDump: { _ in }, forceMigration: { _, _ in },
            claims: { host, _ in throw Failure(.unreachable, "\(host)") }, forget: { _ in })
        let cloud = try await ComputeFixture(conductor: conductor)
        let id = try await cloud.makeActive()
        let reply = await cloud.send(.post, "servers/\(id)/action", ["os-getConsoleOutput": [:]])
        #expect(reply.status == 503 && reply.message.contains("kvm1"))
    }

    @Test("What was done is listed, with events from 2.51 and for deleted servers from 2.21")
    func history() async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeActive()
        cloud.clock.advance(by: .seconds(5))
        let stop = await cloud.send(.post, "servers/\(id)/action", ["os-stop": .null])
        let request = try #require(stop.response.headers["x-openstack-request-id"])
        let now = cloud.clock.now
        _ = try await cloud.database.instances.update(
            InstanceID(id), now: now,
            finishing: ActionEnd(
                requestID: RequestID(request), at: now, failed: false,
                event: InstanceEvent(
                    name: "compute_stop_instance", host: HostName("kvm1"), startedAt: now, finishedAt: now,
                    result: "Success", details: nil))
        ) { instance in
            instance.vmState = .deleted
            instance.deletedAt = now
        }
        let path = "servers/\(id)/os-instance-actions"
        #expect(await cloud.send(.get, path).status == 404)
        let list = await cloud.send(.get, path, at: "2.21").json["instanceActions"]?.list ?? []
        #expect(list.map { $0["action"]?.text } == ["stop", "create"])
        #expect(list.first?["request_id"]?.text == request && list.first?["message"] == .null)
        let plain = await cloud.send(.get, "\(path)/\(request)", at: "2.50").json["instanceAction"]
        #expect(plain?["events"] == nil)
        let shown = await cloud.send(.get, "\(path)/\(request)", at: "2.62").json["instanceAction"]
        #expect(shown?["events"]?[0]?["result"] == "Success" && shown?["events"]?[0]?["host"] == nil)
        #expect(shown?["events"]?[0]?["hostId"]?.text?.count == 56 && shown?["updated_at"]?.text != nil)
        let admin = await cloud.send(.get, "\(path)/\(request)", as: "p0/admin", at: "2.62").json["instanceAction"]
        #expect(admin?["events"]?[0]?["host"] == "kvm1")
        let first = await cloud.send(.get, path + "?limit=1", at: "2.58")
        #expect(first.json["instanceActions"]?.list?.count == 1 && first.json["links"]?[0]?["rel"] == "next")
        #expect(await cloud.send(.get, "\(path)/req-none", at: "2.62").status == 404)
    }
}
