import Crypto
import Model
import RPC
import Testing

@testable import Compute

@Suite("Copies of root disks", .timeLimit(.minutes(3)))
struct SnapshotTests {
    private static func order(_ quiesce: SnapshotOrder.Quiesce = .no) -> SnapshotOrder {
        SnapshotOrder(image: ImageID(makeUUID()), format: .qcow2, quiesce: quiesce)
    }

    private func failure(_ body: () async throws -> Void) async -> Failure? {
        do { try await body() } catch { return error as? Failure }
        return nil
    }

    private static func bytes(_ id: InstanceID) -> [UInt8] { Array("disk of \(id), running".utf8) }

    @Test("A copy is made, uploaded and removed, and the guest is what it was")
    func whole() async throws {
        let bench = try Bench()
        try await bench.run { agent in
            let instance = Instance.test()
            try await agent.built(instance)
            let order = Self.order()
            let outcome = try await agent.conductor.outcome(
                of: agent.operate(.snapshot(order), instance.id, generation: 2))
            #expect(outcome.failure == nil)
            #expect(outcome.vmState == .active && outcome.powerState == .running)
            #expect(outcome.steps.map(\.name) == ["take_snapshot", "upload_snapshot", "remove_snapshot"])
            #expect(agent.conductor.heard.uploads == [order.image.rawValue: Self.bytes(instance.id)])
            #expect(agent.driver.host.state.snapshots.isEmpty)
            try await agent.holdsExactly([instance])
        }
    }

    @Test("A copy that a user cancels leaves nothing, and the guest as it was")
    func cancelled() async throws {
        let bench = try Bench()
        try await bench.run { agent in
            let instance = Instance.test()
            try await agent.built(instance)
            agent.driver.hold(.takeSnapshot)
            let task = try await agent.operate(.snapshot(Self.order()), instance.id, generation: 2)
            await agent.driver.reached(.takeSnapshot)
            try await agent.cancel(task, instance.id, generation: 2)
            let outcome = try await agent.conductor.outcome(of: task)
            #expect(outcome.failure?.kind == .cancelled)
            #expect(outcome.vmState == .active && outcome.powerState == .running)
            #expect(agent.driver.host.state.snapshots.isEmpty)
            let again = await failure { try await agent.cancel(task, instance.id, generation: 2) }
            #expect(again?.kind == .notFound)
            try await agent.holdsExactly([instance])
        }
    }

    @Test("A rescue is cancelled until its guest is shut down; what waits behind it, at any time; a delete never")
    func tooFarOn() async throws {
        let bench = try Bench()
        try await bench.run { agent in
            let instance = Instance.test()
            try await agent.built(instance)
            agent.driver.hold(.powerOff)
            let rescue = try await agent.operate(
                .rescue(GuestMaterial(image: .test)), instance.id, generation: 2)
            await agent.driver.reached(.powerOff)
            let refused = await failure { try await agent.cancel(rescue, instance.id, generation: 2) }
            #expect(refused?.kind == .conflict && refused?.isRetriable == false)
            let pause = try await agent.operate(.pause, instance.id, generation: 3)
            try await agent.cancel(pause, instance.id, generation: 3)
            agent.driver.release(.powerOff)
            #expect(try await agent.conductor.outcome(of: rescue).failure == nil)
            #expect(try await agent.conductor.outcome(of: pause).failure?.kind == .cancelled)
            #expect(agent.driver.count(.pause) == 0)
            agent.driver.hold(.powerOff)
            let delete = try await agent.delete(instance.id, generation: 4)
            await agent.driver.reached(.powerOff)
            #expect((await failure { try await agent.cancel(delete, instance.id, generation: 4) })?.kind == .conflict)
            agent.driver.release(.powerOff)
            #expect(try await agent.conductor.outcome(of: delete).failure == nil)
        }
    }

    @Test(
        "A broken upload begins anew, and a service that is busy is asked again",
        arguments: [[503], [409, 500], [401]])
    func again(statuses: [Int]) async throws {
        let bench = try Bench()
        try await bench.run { agent in
            let instance = Instance.test()
            try await agent.built(instance)
            agent.conductor.script { $0.uploadStatuses = statuses }
            let outcome = try await agent.conductor.outcome(
                of: agent.operate(.snapshot(Self.order()), instance.id, generation: 2))
            #expect(outcome.failure == nil)
            #expect(agent.conductor.heard.uploadAttempts == statuses.count + 1)
            #expect(agent.conductor.heard.uploads.values.first == Self.bytes(instance.id))
        }
    }

    @Test(
        "An image that is gone or refuses the bytes ends the operation, and nothing is left",
        arguments: [(404, FailureKind.notFound), (400, .imageUnacceptable), (413, .imageUnacceptable)])
    func refused(status: Int, kind: FailureKind) async throws {
        let bench = try Bench()
        try await bench.run { agent in
            let instance = Instance.test()
            try await agent.built(instance)
            agent.conductor.script { $0.uploadStatuses = [status] }
            let outcome = try await agent.conductor.outcome(
                of: agent.operate(.snapshot(Self.order()), instance.id, generation: 2))
            #expect(outcome.failure?.kind == kind)
            #expect(outcome.vmState == .active && outcome.powerState == .running)
            #expect(agent.driver.host.state.snapshots.isEmpty)
            try await agent.holdsExactly([instance])
        }
    }

    @Test("Bytes that the image has already, as after a lost answer, are not sent again; others are a conflict")
    func stored() async throws {
        let bench = try Bench()
        try await bench.run { agent in
            let instance = Instance.test()
            try await agent.built(instance)
            let bytes = Self.bytes(instance.id)
            agent.conductor.script {
                $0.stored = .init(sizeBytes: Int64(bytes.count), sha512: Hex.encode(digest(.sha512, of: bytes)))
            }
            let same = try await agent.conductor.outcome(
                of: agent.operate(.snapshot(Self.order()), instance.id, generation: 2))
            #expect(same.failure == nil)
            agent.conductor.script { $0.stored = .init(sizeBytes: Int64(bytes.count), sha512: "00") }
            let other = try await agent.conductor.outcome(
                of: agent.operate(.snapshot(Self.order()), instance.id, generation: 3))
            #expect(other.failure?.kind == .conflict)
            #expect(agent.conductor.heard.uploadAttempts == 0)
            #expect(agent.driver.host.state.snapshots.isEmpty)
        }
    }

    @Test(
        "A delete ends a copy under way at once and leaves nothing",
        arguments: [DriverCall.takeSnapshot, .readSnapshot])
    func deleted(during call: DriverCall) async throws {
        let bench = try Bench()
        try await bench.run { agent in
            let instance = Instance.test()
            try await agent.built(instance)
            agent.driver.hold(call)
            let copy = try await agent.operate(.snapshot(Self.order()), instance.id, generation: 2)
            await agent.driver.reached(call)
            let delete = try await agent.delete(instance.id, generation: 3)
            #expect(try await agent.conductor.outcome(of: copy).failure?.kind == .cancelled)
            #expect(try await agent.conductor.outcome(of: delete).failure == nil)
            #expect(agent.conductor.heard.uploads.isEmpty)
            try await agent.holdsExactly([])
        }
    }

    @Test("A copy of which no operation is under way is removed at the start; that of another host's guest is let be")
    func leftover() async throws {
        let (folder, host, instance) = (try Folder(), FakeHost(), Instance.test())
        try await Bench(host: host, folder: folder).run { try await $0.built(instance) }
        let (own, other) = (
            SnapshotName(instance: instance.id, name: makeUUID()),
            SnapshotName(instance: InstanceID(makeUUID()), name: makeUUID())
        )
        host.change { ($0.snapshots[own], $0.snapshots[other]) = ([1], [2]) }
        try await Bench(host: host, folder: folder).run { agent in
            #expect(Set(agent.driver.host.state.snapshots.keys) == [other])
            await agent.core.removeDeadSnapshots()
            #expect(Set(agent.driver.host.state.snapshots.keys) == [other])
        }
    }

    @Test("What a driver fails by, the operation fails by, without trace")
    func driverFails() async throws {
        let bench = try Bench()
        try await bench.run { agent in
            let instance = Instance.test()
            try await agent.built(instance)
            agent.driver.fail(.takeSnapshot, Failure(.conflict, "must be quiesced"), afterEffect: true)
            let outcome = try await agent.conductor.outcome(
                of: agent.operate(.snapshot(Self.order(.required)), instance.id, generation: 2))
            #expect(outcome.failure?.kind == .conflict)
            #expect(agent.driver.host.state.snapshots.isEmpty)
        }
    }

    @Test("Progress is told at first, then by 5 %, or after a second; never twice the same")
    func meter() {
        let meter = ProgressMeter()
        let start = ContinuousClock.now
        #expect(meter.isWorthTelling(0, now: start))
        #expect(!meter.isWorthTelling(0, now: start + .seconds(5)))
        #expect(!meter.isWorthTelling(4, now: start + .milliseconds(900)))
        #expect(meter.isWorthTelling(5, now: start + .milliseconds(900)))
        #expect(!meter.isWorthTelling(6, now: start + .milliseconds(1_800)))
        #expect(meter.isWorthTelling(6, now: start + .milliseconds(1_900)))
    }
}
