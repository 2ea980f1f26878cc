import Configuration
import Crypto
import Database
import Foundation
import Model
import Periodic
import RPC
import Tasks
import Telemetry
import Testing

@testable import Conductor

/// An option after whose time the cloud acts by itself, and an instance on which it does.
struct Lapse: Sendable, CustomTestStringConvertible {
    var option: String
    /// The values with which it never acts.
    var off: [String]
    var actor: String
    var kind: String
    var request: InstanceActionKind
    /// Makes the instance one whose time has begun at the moment.
    var begin: @Sendable (inout Instance, Timestamp) -> Void

    var testDescription: String { option }

    static let reclaim = Lapse(
        option: "reclaim_instance_interval", off: ["0"], actor: "system:reclaim", kind: TaskKind.delete,
        request: .delete
    ) { ($0.vmState, $0.softDeletedAt) = (.softDeleted, $1) }

    static let rescue = Lapse(
        option: "rescue_timeout", off: ["0"], actor: "system:rescue-timeout", kind: TaskKind.guest, request: .unrescue
    ) { ($0.vmState, $0.rescuedAt) = (.rescued, $1) }

    static let confirm = Lapse(
        option: "resize_confirm_window", off: ["0"], actor: "system:resize-confirm-window",
        kind: TaskKind.confirmMove, request: .confirmResize
    ) { instance, moment in
        instance.vmState = .resized
        instance.move = PendingMove(
            migration: MigrationID(makeUUID()), type: .migration, source: HostName("kvm2"),
            formerFlavor: instance.flavor, formerVMState: .active)
        instance.move?.finishedAt = moment
    }

    static let offload = Lapse(
        // At once is the affair of the shelving itself.
        option: "shelved_offload_time", off: ["-1", "0"], actor: "system:shelved-offload", kind: TaskKind.offload,
        request: .shelveOffload
    ) { instance, moment in
        instance.vmState = .shelved
        instance.shelved = ShelvedRecord(imageID: instance.imageID, host: instance.host, at: moment)
    }

    static let all = [reclaim, rescue, confirm, offload]

    /// An instance on `kvm1` whose time began so long before `now`.
    func instance(aged age: Duration, at now: Timestamp, id: InstanceID = InstanceID(makeUUID())) -> Instance {
        var made = Instance(
            id: id, projectID: ProjectID("p"), userID: UserID("u"), name: "guest", hostname: "guest",
            flavor: Flavor(id: FlavorID("1"), name: "f", vcpus: 1, memoryMiB: 512, rootGiB: 1),
            imageID: ImageID(makeUUID()), reservationID: "r-1", createdAt: now - age)
        (made.host, made.launchedAt, made.hostFence) = (HostName("kvm1"), now - age, made.fence)
        (made.vmState, made.taskState, made.powerState) = (.active, nil, .running)
        begin(&made, now - age)
        return made
    }
}

@Suite("When an instance's time is over", .timeLimit(.minutes(3)))
struct LapsingOptionsTests {
    private static let now = Timestamp(seconds: 1_800_000_000)

    /// What has been begun by itself in a conductor with this configuration file, once each of its tasks has run.
    private func begun(_ file: String, _ instance: Instance) async throws -> [InstanceAction] {
        let folder = NSTemporaryDirectory() + "apus-lapsing-" + makeUUID()
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let path = folder + "/apus.conf"
        try "[conductor]\nlisten = 127.0.0.1:0\n\n[DEFAULT]\n\(file)\n".write(
            toFile: path, atomically: true, encoding: .utf8)
        let configuration = try Configuration.load(
            files: [path], overrides: [],
            options: CommonOptions.all + DatabaseOptions.all + RPCOptions.all + ConductorOptions.all)
        #expect(configuration.warnings.isEmpty)
        let database = try await ControlDatabase.open(path: nil) { Self.now }
        _ = try await database.instances.create([instance], actions: [], tasks: [])
        let conductor = try await ConductorService(
            configuration: configuration, database: database, hostName: HostName("control"), now: { Self.now })
        for task in conductor.periodicRunner.tasks { try await task.run() }
        let actions = try await database.actions.list(instance.id)
        let rows = try await database.tasks.list(instance: instance.id, unfinishedOnly: true, limit: 10)
        #expect(rows.count == actions.count && rows.allSatisfy { $0.requestID == actions.first?.requestID })
        let after = try #require(try await database.instances.find(instance.id))
        #expect((after.taskState != nil) == !actions.isEmpty)
        #expect(actions.isEmpty ? after.fence == instance.fence : after.fence > instance.fence)
        for row in rows { #expect(Lapse.all.contains { $0.kind == row.kind && $0.request == actions.first?.kind }) }
        // Nothing is left of it but its port.
        let life = Task { try await conductor.run() }
        life.cancel()
        _ = await life.result
        return actions
    }

    @Test("The option in the file says after how long; of what is off nothing is begun", arguments: Lapse.all)
    func times(lapse: Lapse) async throws {
        let limit = Duration.seconds(900)
        for (age, expected) in [(limit - .seconds(1), []), (limit, [lapse.actor]), (limit * 100, [lapse.actor])] {
            let actions = try await begun("\(lapse.option) = 900", lapse.instance(aged: age, at: Self.now))
            #expect(actions.map(\.userID.rawValue) == expected, "at the age of \(age)")
            #expect(actions.allSatisfy { $0.kind == lapse.request && $0.startedAt == Self.now })
        }
        // The others say nothing of it.
        let others = Lapse.all.filter { $0.option != lapse.option }.map { "\($0.option) = 1" }
        let old = Duration.seconds(10 * 365 * 86_400)
        for file in lapse.off.map({ "\(lapse.option) = \($0)" }) + [others.joined(separator: "\n"), ""] {
            #expect(try await begun(file, lapse.instance(aged: old, at: Self.now)).isEmpty, "with \(file)")
        }
        #expect(
            try await begun(
                "\(lapse.option) = 900\nperiodic_enable = no", lapse.instance(aged: old, at: Self.now)
            ).isEmpty)
    }

    /// Inserts one into a plane that runs.
    private func add(_ lapse: Lapse, aged age: Duration, to plane: ControlPlane) async throws -> InstanceID {
        let instance = lapse.instance(aged: age, at: WallClock.now())
        _ = try await plane.addImage(instance.imageID)
        _ = try await plane.database.instances.create([instance], actions: [], tasks: [])
        if let move = instance.move {
            let record = MigrationRecord(
                id: move.migration, instance: instance, type: move.type, status: .finished, sourceHost: move.source,
                newFlavor: instance.flavor.id, userID: instance.userID, now: WallClock.now())
            _ = try await plane.database.instances.update(
                instance.id, now: WallClock.now(), migrations: [.insert(record)]
            ) { _ in }
        }
        return instance.id
    }

    @Test("A conductor that runs looks by itself, and leaves those whose time is not over", arguments: Lapse.all)
    func running(lapse: Lapse) async throws {
        let settings = [
            "DEFAULT.\(lapse.option)": "900", "conductor.lapsed_poll_interval": "1",
            "DEFAULT.shelved_poll_interval": "1",
        ]
        try await ControlPlane.with(settings: settings) { plane in
            for name in ["kvm1", "kvm2"] {
                let host = try await plane.addHost(name)
                _ = try await host.register(host.manifest)
            }
            // Both are there before the first look at the second.
            let young = try await add(lapse, aged: .seconds(500), to: plane)
            let old = try await add(lapse, aged: .seconds(1_000), to: plane)
            let action = try await eventually("the old one's end") {
                try await plane.database.actions.list(old).first { $0.finishedAt != nil }
            }
            #expect(action.userID.rawValue == lapse.actor && action.message == nil)
            let after = try #require(try await plane.database.instances.find(old, includeDeleted: true))
            #expect(after.taskState == nil)
            switch lapse.option {
            case "reclaim_instance_interval": #expect(after.deletedAt != nil)
            case "shelved_offload_time": #expect(after.vmState == .shelvedOffloaded && after.host == nil)
            case "rescue_timeout": #expect(after.vmState == .active && after.rescuedAt == nil)
            default: #expect(after.vmState == .active && after.move == nil)
            }
            #expect(try await plane.database.actions.list(young).isEmpty)
            #expect(try await plane.database.instances.find(young)?.taskState == nil)
        }
    }

    @Test(
        "A negative poll interval keeps its own looks from coming, and no others",
        arguments: [
            ("conductor.lapsed_poll_interval", "DEFAULT.shelved_poll_interval", Lapse.rescue, Lapse.offload),
            ("DEFAULT.shelved_poll_interval", "conductor.lapsed_poll_interval", Lapse.offload, Lapse.rescue),
        ])
    func polls(off: String, on: String, idle: Lapse, busy: Lapse) async throws {
        let settings = [off: "-1", on: "1", "DEFAULT.\(idle.option)": "900", "DEFAULT.\(busy.option)": "900"]
        try await ControlPlane.with(settings: settings) { plane in
            _ = try await plane.addHost("kvm1")
            let left = try await add(idle, aged: .seconds(1_000), to: plane)
            // The second is found by a look that came after the whole of the first.
            for _ in 1...2 {
                let taken = try await add(busy, aged: .seconds(1_000), to: plane)
                _ = try await eventually("the end of what is looked for") {
                    try await plane.database.actions.list(taken).first { $0.finishedAt != nil }
                }
            }
            #expect(try await plane.database.actions.list(left).isEmpty)
            #expect(try await plane.database.instances.find(left)?.taskState == nil)
        }
    }
}
