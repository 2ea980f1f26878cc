import ComputeAPI
import Database
import Foundation
import HTTP
import Model
import Tasks
import Testing

@Suite("The one table, through the API")
struct AdmissionMatrixTests {
    /// One state that an instance can be in.
    struct Situation: Sendable {
        var vmState: VMState
        var taskState: TaskState?
        var isLocked: Bool
        var isAdmin: Bool
        var hasHost = true
        var wasLaunched = true
    }

    private static let situations: [Situation] = VMState.allCases.filter { $0 != .deleted }.flatMap { vmState in
        ([nil] + TaskState.allCases.map(Optional.some)).flatMap { taskState -> [Situation] in
            let askers = [(false, false), (false, true), (true, false), (true, true)].map {
                Situation(vmState: vmState, taskState: taskState, isLocked: $0.0, isAdmin: $0.1)
            }
            // What is under way changes nothing in what these two obstacles are.
            let incomplete = [(false, true), (true, false)].filter { _ in taskState == nil }.map {
                Situation(
                    vmState: vmState, taskState: taskState, isLocked: false, isAdmin: true, hasHost: $0.0,
                    wasLaunched: $0.1)
            }
            return askers + incomplete
        }
    }

    /// How `request` is asked for, and the status where it is admitted.
    private static func call(_ request: InstanceRequest) -> (HTTPMethod, path: String, body: JSON?, admitted: Int) {
        func action(_ name: String, _ argument: JSON = .null, _ status: Int = 202) -> (HTTPMethod, String, JSON?, Int) {
            (.post, "/action", .object([name: argument]), status)
        }
        switch request {
        case .delete, .softDelete: return (.delete, "", nil, 204)
        case .forceDelete: return action("forceDelete")
        case .restore: return action("restore")
        case .start: return action("os-start")
        case .stop: return action("os-stop")
        case .reboot(let type): return action("reboot", ["type": .string(type.rawValue)])
        case .pause: return action("pause")
        case .unpause: return action("unpause")
        case .suspend: return action("suspend")
        case .resume: return action("resume")
        case .rescue: return action("rescue", .null, 200)
        case .unrescue: return action("unrescue")
        case .rebuild: return action("rebuild", ["imageRef": .string(ComputeFixture.image)])
        case .shelve: return action("shelve")
        case .shelveOffload: return action("shelveOffload")
        case .unshelve: return action("unshelve")
        case .lock: return action("lock")
        case .unlock: return action("unlock")
        case .createImage: return action("createImage", ["name": "copy"])
        case .createBackup: return action("createBackup", ["name": "b", "backup_type": "daily", "rotation": 1])
        case .changePassword: return action("changePassword", ["adminPass": "pw"])
        // Nobody here carries the task through, so the answer tells that it is not done yet.
        case .attachInterface: return (.post, "/os-interface", nil, 504)
        case .detachInterface: return (.delete, "/os-interface/\(port)", nil, 202)
        case .triggerCrashDump: return action("trigger_crash_dump")
        case .resetState: return action("os-resetState", ["state": "error"])
        case .resize: return action("resize", ["flavorRef": "1"])
        case .migrate: return action("migrate")
        case .confirmResize: return action("confirmResize", .null, 204)
        case .revertResize: return action("revertResize")
        case .liveMigrate: return action("os-migrateLive", ["host": .null, "block_migration": "auto"])
        case .abortLiveMigration: return (.delete, "/migrations/1", nil, 202)
        case .forceLiveMigration: return (.post, "/migrations/1/action", ["force_complete": .null], 202)
        case .evacuate: return action("evacuate", [:], 200)
        case .changeMetadata: return (.post, "/metadata", ["metadata": ["a": "b"]], 200)
        case .changeTags: return (.put, "/tags/t", nil, 201)
        case .consoleOutput: return action("os-getConsoleOutput", [:], 200)
        // Admitted, and refused for want of a proxy.
        case .remoteConsole:
            return (.post, "/remote-consoles", ["remote_console": ["protocol": "vnc", "type": "novnc"]], 400)
        case .diagnostics: return (.get, "/diagnostics", nil, 200)
        }
    }

    private static let id = "cccccccc-1111-4111-8111-111111111111"
    private static let nic = NetworkInterface(network: "default", macAddress: "fa:16:3e:00:00:01")
    private static var port: String { nic.portID(in: InstanceID(id)) }
    private static let adminOnly: Set<InstanceRequest> = [
        .shelveOffload, .resetState, .diagnostics, .migrate, .liveMigrate, .abortLiveMigration, .forceLiveMigration,
        .evacuate,
    ]

    /// An instance in that state, on a host, as nothing but the row says.
    private static func instance(_ situation: Situation, for request: InstanceRequest? = nil) -> Instance {
        var made = Instance(
            id: InstanceID(id), number: 1, projectID: ProjectID("p1"), userID: UserID("u-p1"), name: "web",
            hostname: "web", flavor: Flavor(id: FlavorID("42"), name: "f", vcpus: 1, memoryMiB: 64, rootGiB: 1),
            imageID: ImageID(ComputeFixture.image), reservationID: "r", createdAt: ComputeFixture.start)
        made.vmState = situation.vmState
        made.taskState = situation.taskState
        made.lock = situation.isLocked ? InstanceLock(holder: .owner) : nil
        made.host = situation.hasHost ? HostName("kvm1") : nil
        made.launchedAt = situation.wasLaunched ? ComputeFixture.start : nil
        made.powerState = .running
        made.interfaces = [nic]
        made.move = PendingMove(
            migration: MigrationID("dddddddd-1111-4111-8111-111111111111"), type: .resize, source: HostName("kvm1"),
            formerFlavor: made.flavor, formerVMState: .active)
        // What two hosts have something of is evacuated from neither.
        if request == .evacuate { made.move = nil }
        made.shelved = ShelvedRecord(imageID: ImageID(ComputeFixture.image), host: made.host, at: ComputeFixture.start)
        return made
    }

    @Test(
        "Every request in every state is admitted or 409 as the table says; a refusal changes nothing",
        arguments: InstanceRequest.allCases)
    func all(request: InstanceRequest) async throws {
        let reclaim: Duration = request == .softDelete ? .seconds(60) : .zero
        let cloud = try await ComputeFixture(
            settings: APISettings(
                quotas: .init(instances: -1, cores: -1, memoryMiB: -1), reclaimInterval: reclaim,
                operationPatience: .zero))
        let (method, path, body, admitted) = Self.call(request)
        try await Self.create(in: cloud)
        if request == .evacuate {
            try await cloud.database.services.record([
                ServiceHeartbeat(host: HostName("kvm1"), binary: "nova-compute", version: 1, at: ComputeFixture.start)
            ])
            let host = try #require(try await cloud.database.services.list().first)
            _ = try await cloud.database.services.change(uuid: host.uuid, isForcedDown: true)
        }
        var wrong: [String] = []
        var obstacles: Set<InvalidState.Obstacle> = []
        for situation in Self.situations where situation.isAdmin || !Self.adminOnly.contains(request) {
            let before = Self.instance(situation, for: request)
            _ = try await cloud.database.instances.update(before.id, now: ComputeFixture.start) { $0 = before }
            let reply = await cloud.send(
                method, "servers/\(Self.id)\(path)", as: situation.isAdmin ? "p1/admin" : "p1/member", at: "2.62", body)
            let expected: (status: Int, taskState: TaskState?)
            var sentence: String?
            if request == .softDelete, let soft = Self.softly(situation) {
                expected = soft
            } else {
                do {
                    let next = try request.admitted(to: before, isAdmin: situation.isAdmin)
                    expected =
                        Self.isWithoutGuest(request, before)
                        ? (409, situation.taskState)
                        : (admitted, next ?? (request == .resetState ? nil : situation.taskState))
                } catch {
                    expected = (409, situation.taskState)
                    obstacles.insert(error.obstacle)
                    if [.noHost, .notLaunched].contains(error.obstacle) { sentence = error.message(for: before.id) }
                }
            }
            let after = try #require(try await cloud.database.instances.find(before.id))
            if reply.status != expected.status || after.taskState != expected.taskState
                || (reply.status == 409 && after != before) || (sentence.map { $0 != reply.message } ?? false)
            {
                wrong.append("\(situation): \(reply.status) \(after.taskState?.rawValue ?? "-") \(reply.message)")
            }
        }
        #expect(wrong.isEmpty, "\(request): \(wrong.count) of \(Self.situations.count): \(wrong.prefix(3))")
        let row = InstanceAdmission(request)
        if request != .softDelete {
            #expect(obstacles.contains(.noHost) == row.needsHost)
            #expect(obstacles.contains(.notLaunched) == row.needsLaunched)
        }
    }

    /// The instance, and a live migration of it that runs.
    private static func create(in cloud: ComputeFixture) async throws {
        let instance = instance(situations[0])
        let migration = MigrationRecord(
            id: MigrationID("eeeeeeee-1111-4111-8111-111111111111"), instance: instance, type: .liveMigration,
            status: .running, sourceHost: HostName("kvm1"), newFlavor: instance.flavor.id, userID: instance.userID,
            now: ComputeFixture.start)
        let row = try TaskEngine.makeRow(
            kind: TaskKind.liveMigrate, instance: instance.id, requestID: RequestID("req-live"),
            state: MoveTaskState(instance: instance.id, migration: migration.id), now: ComputeFixture.start)
        _ = try await cloud.database.instances.create([instance], actions: [], tasks: [row])
        _ = try await cloud.database.instances.update(
            instance.id, now: ComputeFixture.start, migrations: [.insert(migration)]
        ) { _ in }
    }

    private static let repetitions = ProcessInfo.processInfo.environment["APUS_FULL"]?.isEmpty == false ? 10 : 1

    /// What the table admits of instances on no host, since it may be right, and turns out not to be.
    private static func isWithoutGuest(_ request: InstanceRequest, _ instance: Instance) -> Bool {
        guard instance.host == nil else { return false }
        return request == .restore || (request == .unshelve && instance.vmState == .shelved)
    }

    /// Where a soft delete is not what the table says of it: what is on no host, or between two (every instance here
    /// has a move), or is being deleted, is deleted for good; a second one finds its work done.
    private static func softly(_ situation: Situation) -> (status: Int, taskState: TaskState?)? {
        if situation.isLocked, !situation.isAdmin { return (409, situation.taskState) }
        if situation.vmState == .shelvedOffloaded || situation.taskState == .deleting || !situation.hasHost
            || !situation.wasLaunched || situation.vmState == .error
            || [.resizeMigrating, .resizeMigrated, .resizeFinish, .resizeReverting, .migrating].contains(
                situation.taskState)
        {
            return (204, .deleting)
        }
        if situation.vmState == .softDeleted || situation.taskState == .softDeleting {
            return (204, situation.taskState)
        }
        return nil
    }

    /// Two requests that something is under way by, and a state that admits either.
    struct Clash: Sendable, CustomTestStringConvertible {
        var first: InstanceRequest
        var second: InstanceRequest
        var vmState: VMState

        var testDescription: String { "\(first) and \(second) while \(vmState)" }
        /// Whether neither bears the other.
        var isStrict: Bool { [first, second].allSatisfy { InstanceAdmission($0).tasks == .none } }
    }

    private static let clashes: [Clash] = {
        // An evacuation needs a host that is dead, the others one that is up.
        let setting = InstanceRequest.allCases.filter { InstanceAdmission($0).taskState != nil && $0 != .evacuate }
        return setting.indices.flatMap { index -> [Clash] in
            setting[index...].compactMap { second -> Clash? in
                let first = setting[index]
                // Which of the two a DELETE is, the configuration says.
                guard Set([first, second]) != [.delete, .softDelete] else { return nil }
                let common = VMState.allCases.first { vmState in
                    let situation = Situation(vmState: vmState, taskState: nil, isLocked: false, isAdmin: true)
                    let admitted = [first, second].filter {
                        (try? $0.admitted(to: Self.instance(situation), isAdmin: true)) != nil
                    }
                    return vmState != .deleted && admitted.count == 2
                }
                return common.map { Clash(first: first, second: second, vmState: $0) }
            }
        }
    }()

    @Test("Of two clashing requests at once one wins and the other is 409, unless it may take the first one's place")
    func clash() async throws {
        #expect(Self.clashes.count > 100 && Self.clashes.count { $0.isStrict } > 60)
        for hasReclaim in [false, true] {
            let cloud = try await ComputeFixture(
                settings: APISettings(
                    quotas: .init(instances: -1, cores: -1, memoryMiB: -1),
                    reclaimInterval: hasReclaim ? .seconds(60) : .zero, operationPatience: .zero))
            let blank = Situation(vmState: .active, taskState: nil, isLocked: false, isAdmin: true)
            _ = try await cloud.database.instances.create([Self.instance(blank)], actions: [], tasks: [])
            for clash in Self.clashes where [clash.first, clash.second].contains(.softDelete) == hasReclaim {
                for _ in 0..<Self.repetitions { try await check(clash, cloud) }
            }
        }
    }

    private func check(_ clash: Clash, _ cloud: ComputeFixture) async throws {
        let before = Self.instance(
            Situation(vmState: clash.vmState, taskState: nil, isLocked: false, isAdmin: true))
        _ = try await cloud.database.instances.update(before.id, now: ComputeFixture.start) { $0 = before }
        let answers = await withTaskGroup(of: (status: Int, hasWon: Bool).self) { group in
            for request in [clash.first, clash.second] {
                group.addTask {
                    let (method, path, body, admitted) = Self.call(request)
                    let reply = await cloud.send(
                        method, "servers/\(Self.id)\(path)", as: "p1/admin", at: "2.62", body)
                    return (status: reply.status, hasWon: reply.status == admitted)
                }
            }
            return await group.reduce(into: [(status: Int, hasWon: Bool)]()) { $0.append($1) }
        }
        let won = answers.count { $0.hasWon }
        let lost = answers.count { $0.status == 409 }
        #expect(won + lost == 2 && won >= 1, "\(clash.testDescription): \(answers)")
        guard clash.isStrict else { return }
        #expect(won == 1, "\(clash.testDescription): \(answers)")
        let after = try await cloud.database.instances.find(before.id)
        #expect(after?.fence.generation == before.fence.generation + 1, "\(clash.testDescription)")
        let winners = [clash.first, clash.second].map { InstanceAdmission($0).taskState }
        #expect(winners.contains(after?.taskState), "\(clash.testDescription)")
    }
}
