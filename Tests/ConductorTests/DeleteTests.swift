import Crypto
import Database
import Model
import RPC
import Tasks
import Telemetry
import Testing

@Suite struct DeleteTests {
    @Test("A delete takes the guest from its host and closes the record")
    func simple() async throws {
        let plane = try await ControlPlane()
        let host = try await plane.addHost("one")
        let (instance, _) = try await plane.create()
        _ = try await plane.wait(for: instance.id) { $0.vmState == .active }
        let task = try await plane.delete(instance.id)
        let deleted = try await plane.wait(for: instance.id) { $0.deletedAt != nil }
        #expect(deleted.vmState == .deleted && deleted.taskState == nil)
        #expect(host.commands("delete").map(\.fence.generation) == [2])
        #expect(try await plane.waitForEnd(of: task).status == .succeeded)
        await host.stop()
        await plane.stop()
    }

    @Test("A delete during a build wins, and the build's late success changes nothing")
    func duringBuild() async throws {
        let plane = try await ControlPlane()
        let host = try await plane.addHost("one")
        host.answer("build", .stayQuiet)
        let (instance, build) = try await plane.create()
        let header = try await eventually("the build to arrive") { host.commands("build").first }
        _ = try await plane.delete(instance.id)
        _ = try await plane.wait(for: instance.id) { $0.deletedAt != nil }
        try await host.finish(header)
        let row = try await plane.waitForEnd(of: build)
        #expect(row.status != .succeeded)
        let after = try #require(try await plane.database.instances.find(instance.id, includeDeleted: true))
        #expect(after.vmState == .deleted)
        #expect(after.fault == nil)
        await host.stop()
        await plane.stop()
    }

    @Test("An instance that is on no host is deleted without asking any")
    func withoutHost() async throws {
        let plane = try await ControlPlane()
        let (instance, _) = try await plane.create()
        _ = try await plane.wait(for: instance.id) { $0.vmState == .error }
        _ = try await plane.delete(instance.id)
        _ = try await plane.wait(for: instance.id) { $0.deletedAt != nil }
        await plane.stop()
    }

    @Test("A host that is down does not hold up the user, and stays on the list of those to clean")
    func hostDown() async throws {
        let plane = try await ControlPlane(settings: ["DEFAULT.service_down_time": "4"])
        let host = try await plane.addHost("one")
        let heart = host.heart()
        let (instance, _) = try await plane.create()
        _ = try await plane.wait(for: instance.id) { $0.vmState == .active }
        heart.cancel()
        await host.stop()
        let task = try await plane.delete(instance.id)
        let deleted = try await plane.wait(for: instance.id) { $0.deletedAt != nil }
        #expect(deleted.vmState == .deleted)
        let row = try #require(try await plane.database.tasks.find(task))
        #expect(row.status == .waiting || row.status == .running)
        await plane.stop()
    }
}

@Suite struct TrustTests {
    @Test("A host speaks for itself only")
    func impersonation() async throws {
        let plane = try await ControlPlane()
        let one = try await plane.addHost("one")
        let two = try await plane.addHost("two", memoryMiB: 1_024)
        await #expect(throws: Failure.self) {
            try await two.conductor.call(
                Heartbeat.self, .init(host: one.name, binary: "nova-compute", version: 1, sequence: 9))
        }
        await #expect(throws: Failure.self) {
            try await two.conductor.call(ListHostInstances.self, .init(host: one.name))
        }
        let (instance, _) = try await plane.create()
        _ = try await plane.wait(for: instance.id) { $0.vmState == .active }
        await #expect(throws: Failure.self) {
            try await two.conductor.call(
                GetImageTicket.self, .init(host: two.name, instance: instance.id, image: instance.imageID))
        }
        await #expect(throws: Failure.self) {
            try await two.conductor.call(
                ReportInstance.self,
                .init(
                    host: two.name, instance: instance.id, fence: Fence(generation: 1, epoch: 9), vmState: .stopped,
                    powerState: .shutdown, taskState: nil, interfaces: nil, sequence: 1, observedAt: WallClock.now()))
        }
        #expect(try await plane.database.instances.find(instance.id)?.vmState == .active)
        // A host is no service: it may not call what the API may.
        await #expect(throws: Failure.self) { try await two.conductor.call(WakeConductor.self, .init()) }
        await one.stop()
        await two.stop()
        await plane.stop()
    }

    @Test("A host is told of its own instances and of deleted ones, and nothing of those that live on others")
    func standings() async throws {
        try await ControlPlane.with { plane in
            let (one, two) = (try await plane.addHost("one"), try await plane.addHost("two", memoryMiB: 1_024))
            let (gone, _) = try await plane.create()
            let (alive, _) = try await plane.create()
            for id in [gone.id, alive.id] { _ = try await plane.wait(for: id) { $0.vmState == .active } }
            _ = try await plane.delete(gone.id)
            let deleted = try await plane.wait(for: gone.id) { $0.deletedAt != nil }
            let ids = [gone.id, alive.id, InstanceID(makeUUID())]
            let home = try await plane.database.instances.find(alive.id)?.host
            for host in [one, two] {
                let answer = try await host.conductor.call(
                    DescribeInstances.self, .init(host: host.name, instances: ids))
                let isHome = host.name == home
                #expect(answer.instances.map(\.instance) == (isHome ? [gone.id, alive.id] : [gone.id]))
                #expect(answer.instances.map(\.deletedAt) == (isHome ? [deleted.deletedAt, nil] : [deleted.deletedAt]))
                #expect(answer.instances.first?.fence == deleted.fence)
            }
            await #expect(throws: Failure.self) {
                try await two.conductor.call(DescribeInstances.self, .init(host: one.name, instances: ids))
            }
            let many = (0...DescribeInstances.Params.limit).map { InstanceID("\($0)") }
            let failure = await #expect(throws: Failure.self) {
                try await one.conductor.call(DescribeInstances.self, .init(host: one.name, instances: many))
            }
            #expect(failure?.kind == .invalidParameters)
            await one.stop()
            await two.stop()
        }
    }

    @Test("A join token opens once, for its host, until it expires")
    func tokens() async throws {
        let plane = try await ControlPlane()
        let host = try await PlayedHost(name: HostName("new"), plane: plane)
        let other = try await PlayedHost(name: HostName("other"), plane: plane)
        await #expect(throws: Failure.self) { try await host.join(token: "0123") }
        let token = Hex.encode(randomBytes(24))
        try await plane.database.credentials.enroll(
            host.name, tokenHash: digest(.sha256, of: Array(token.utf8)), expiresAt: WallClock.now() + .seconds(60),
            now: WallClock.now())
        await #expect(throws: Failure.self) { try await other.join(token: token) }
        try await host.join(token: token)
        await #expect(throws: Failure.self) { try await host.join(token: token) }
        let late = Hex.encode(randomBytes(24))
        try await plane.database.credentials.enroll(
            host.name, tokenHash: digest(.sha256, of: Array(late.utf8)), expiresAt: WallClock.now() - .seconds(1),
            now: WallClock.now())
        await #expect(throws: Failure.self) { try await host.join(token: late) }
        await host.stop()
        await other.stop()
        await plane.stop()
    }

    @Test("Whoever joins again ends the credential of before, at once")
    func rotation() async throws {
        let plane = try await ControlPlane()
        let host = try await plane.addHost("one")
        let before = host.conductor
        _ = try await before.call(ListHostInstances.self, .init(host: host.name))
        try await host.join()
        let refused = await #expect(throws: Failure.self) {
            _ = try await before.call(ListHostInstances.self, .init(host: host.name))
        }
        #expect(refused?.kind == .unauthenticated)
        _ = try await host.conductor.call(ListHostInstances.self, .init(host: host.name))
        await host.stop()
        await plane.stop()
    }

    @Test("A revoked host is not heard any more, at once")
    func revocation() async throws {
        let plane = try await ControlPlane()
        let host = try await plane.addHost("one")
        _ = try await host.conductor.call(ListHostInstances.self, .init(host: host.name))
        try await plane.database.credentials.revoke(host.name, now: WallClock.now())
        _ = try await plane.api.call(ForgetHost.self, .init(host: host.name))
        let refused = await #expect(throws: Failure.self) {
            _ = try await host.conductor.call(ListHostInstances.self, .init(host: host.name))
        }
        #expect(refused?.kind == .unauthenticated)
        await host.stop()
        await plane.stop()
    }
}
