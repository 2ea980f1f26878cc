import Configuration
import Database
import Model
import RPC
import Synchronization
import Tasks
import Telemetry
import Testing

@testable import Conductor

@Suite struct BuildTests {
    @Test("A host that was given up is not gone back to by the next conductor, whatever it has reported since")
    func givenUp() async throws {
        try await ControlPlane.with { plane in
            let first = try await plane.addHost("kvm1", memoryMiB: 65_536)
            let second = try await plane.addHost("kvm2")
            first.answer("build", .stayQuiet)
            let (instance, task) = try await plane.create()
            let header = try await eventually("build") { first.commands("build").last }
            // As a conductor leaves it that dies between the two: the removal is queued, the attempt is not counted.
            var row = try TaskEngine.makeRow(
                kind: TaskKind.cleanup, instance: instance.id, parent: task, requestID: RequestScope.makeID(),
                generation: 1, state: CleanupTaskState(instance: instance.id, host: first.name), now: WallClock.now())
            row.id = CleanupQueue.id(of: task, first.name)
            try await plane.database.tasks.insert(row)
            try await first.finish(header, vmState: .active)
            let built = try await plane.wait(for: instance.id) { $0.vmState == .active && $0.taskState == nil }
            #expect(built.host == second.name && second.commands("build").count == 1)
            _ = try await plane.waitForEnd(of: row.id)
            #expect(first.commands("delete").count == 1 && second.commands("delete").isEmpty)
        }
    }

    @Test("A build reaches its host, becomes ACTIVE, and its password is nowhere afterwards")
    func success() async throws {
        let plane = try await ControlPlane()
        let host = try await plane.addHost("one")
        let (instance, task) = try await plane.create(password: "s3cret-word")
        let active = try await plane.wait(for: instance.id) { $0.vmState == .active }
        #expect(active.host == host.name)
        #expect(active.taskState == nil)
        #expect(active.powerState == .running)
        #expect(host.state.withLock { $0.builds.first?.adminPassword } == "s3cret-word")
        let row = try await plane.waitForEnd(of: task)
        #expect(row.status == .succeeded)
        #expect(!String(decoding: row.state, as: UTF8.self).contains("s3cret-word"))
        let action = try #require(try await plane.database.actions.list(instance.id).first)
        #expect(action.finishedAt != nil && action.message == nil)
        let events = try await plane.database.actions.events(instance.id, action.requestID)
        #expect(events.map(\.result) == ["Success"])
        await host.stop()
        await plane.stop()
    }

    @Test("A host that refuses or fails is followed by the next, and the fault names them all when none is left")
    func alternates() async throws {
        let plane = try await ControlPlane()
        let first = try await plane.addHost("first", memoryMiB: 8_192)
        let second = try await plane.addHost("second", memoryMiB: 4_096)
        first.answer("build", .refuse(Failure(.insufficientResources, "vcpus: asked 1, free 0")))
        let (good, _) = try await plane.create()
        #expect(try await plane.wait(for: good.id) { $0.vmState == .active }.host == second.name)

        second.answer("build", .fail(Failure(.hypervisor, "libvirt refused the XML", isRetriable: true)))
        let (bad, task) = try await plane.create()
        let failed = try await plane.wait(for: bad.id) { $0.vmState == .error }
        #expect(failed.taskState == nil)
        let message = try #require(failed.fault?.message)
        #expect(message.contains("first: vcpus: asked 1, free 0"))
        #expect(message.contains("second: libvirt refused the XML"))
        #expect(try await plane.waitForEnd(of: task).status == .failed)
        await first.stop()
        await second.stop()
        await plane.stop()
    }

    @Test("Of two schedulers that chose one host for two of an anti-affinity group, the second's server goes elsewhere")
    func lateGroup() async throws {
        try await ControlPlane.with { plane in
            let first = try await plane.addHost("first", memoryMiB: 8_192)
            let second = try await plane.addHost("second", memoryMiB: 4_096)
            let group = ServerGroup(
                id: ServerGroupID("g"), projectID: ProjectID("p"), userID: UserID("u"), name: "apart",
                policy: .antiAffinity, createdAt: WallClock.now())
            try await plane.database.serverGroups.create(group, projectLimit: -1, userLimit: -1)
            var servers: [Instance] = []
            for name in ["a", "b", "c"] {
                var instance = Instance(
                    id: InstanceID(name), projectID: ProjectID("p"), userID: UserID("u"), name: name, hostname: name,
                    flavor: Flavor(id: FlavorID("1"), name: "f", vcpus: 1, memoryMiB: 512, rootGiB: 1),
                    imageID: ImageID("i"), reservationID: "r", createdAt: WallClock.now())
                instance.destination = RequestedDestination(host: first.name, node: nil, isForced: name != "b")
                let image = ImageReference(
                    id: instance.imageID, format: .qcow2, sizeBytes: 1, virtualSizeBytes: 1, sha512: "00")
                let row = try TaskEngine.makeRow(
                    kind: TaskKind.build, instance: instance.id, requestID: RequestScope.makeID(), generation: 1,
                    state: BuildTaskState(instance: instance.id, image: image, adminPassword: nil), now: WallClock.now()
                )
                servers += try await plane.database.instances.create(
                    [instance], actions: [], tasks: [row], group: (group.id, -1))
                _ = try await plane.api.call(WakeConductor.self, .init())
                _ = try await plane.wait(for: instance.id) { $0.taskState == nil }
            }
            let states = try await [
                plane.wait(for: servers[0].id) { _ in true }, plane.wait(for: servers[1].id) { _ in true },
                plane.wait(for: servers[2].id) { _ in true },
            ]
            #expect(states.map(\.vmState) == [.active, .error, .error])
            // The filter says it of the one that asked; the record's own check of the one that was forced there.
            #expect(states[1].fault?.message.contains("anti-affinity group") == true)
            #expect(
                states[2].fault?.message.contains("has 1 of at most 1 servers of the anti-affinity group apart") == true
            )
            #expect(first.state.withLock { $0.builds.count } == 1)
            await first.stop()
            await second.stop()
        }
    }

    @Test("A build that takes longer than instance_build_timeout is in ERROR and says so; 0 is without end")
    func timeout() async throws {
        try await ControlPlane.with(settings: ["DEFAULT.instance_build_timeout": "1"]) { plane in
            let host = try await plane.addHost("one")
            host.answer("build", .stayQuiet)
            let (instance, task) = try await plane.create()
            let late = try await plane.wait(for: instance.id) { $0.vmState == .error && $0.taskState == nil }
            #expect(late.fault?.message.isEmpty == false)
            #expect(try await plane.waitForEnd(of: task).status == .failed)
            await host.stop()
        }
        let never = try Configuration(
            options: ConductorOptions.all, values: ["DEFAULT.instance_build_timeout": "0"])
        #expect(never.buildTimeout >= .seconds(86_400 * 3_650))
    }

    @Test("A conductor that has just begun waits for hosts to be heard of")
    func unheardOf() async throws {
        let plane = try await ControlPlane()
        let host = try await PlayedHost(name: HostName("one"), plane: plane)
        try await host.join()
        try await host.reportResources(memoryMiB: 8_192)
        let (instance, task) = try await plane.create()
        _ = try await eventually("the build to wait") {
            try await plane.database.tasks.find(task)?.status == .waiting ? true : nil
        }
        try await host.beat()
        #expect(try await plane.wait(for: instance.id) { $0.taskState == nil }.vmState == .active)
        await host.stop()
        await plane.stop()
    }

    @Test("A host that is not heard of in the time after which it counts as down ends the build's wait")
    func neverHeardOf() async throws {
        let plane = try await ControlPlane(settings: ["DEFAULT.service_down_time": "1"])
        let host = try await PlayedHost(name: HostName("one"), plane: plane)
        try await host.join()
        try await host.reportResources(memoryMiB: 8_192)
        let (instance, _) = try await plane.create()
        let failed = try await plane.wait(for: instance.id) { $0.vmState == .error }
        #expect(failed.fault?.message == "No valid host was found. Of 1 host: 1 down.")
        await host.stop()
        await plane.stop()
    }

    @Test("What would fail on every host is tried on one only")
    func notRetriable() async throws {
        let plane = try await ControlPlane()
        let first = try await plane.addHost("first")
        let second = try await plane.addHost("second", memoryMiB: 4_096)
        first.answer("build", .fail(Failure(.imageUnacceptable, "the image needs 3 GiB, the flavor has 1 GiB")))
        let (instance, _) = try await plane.create()
        let failed = try await plane.wait(for: instance.id) { $0.vmState == .error }
        #expect(failed.fault?.message == "the image needs 3 GiB, the flavor has 1 GiB")
        #expect(second.commands("build").isEmpty)
        await first.stop()
        await second.stop()
        await plane.stop()
    }

    @Test("No valid host is a fault with reasons and counts")
    func noValidHost() async throws {
        let plane = try await ControlPlane()
        let (alone, _) = try await plane.create()
        let nobody = try await plane.wait(for: alone.id) { $0.vmState == .error }
        #expect(nobody.fault?.message == "No valid host was found. No compute host has reported yet.")
        let host = try await plane.addHost("small", memoryMiB: 1_024)
        let (large, _) = try await plane.create(memoryMiB: 3_072)
        let refused = try await plane.wait(for: large.id) { $0.vmState == .error }
        #expect(
            refused.fault?.message
                == "No valid host was found. Of 1 host: 1 short of memory (nearest by 2048 MiB).")
        #expect(host.commands("build").isEmpty)
        await host.stop()
        await plane.stop()
    }

    @Test("A host that cannot be reached is left, and cleaned when it answers again")
    func unreachable() async throws {
        let plane = try await ControlPlane()
        let gone = try await plane.addHost("gone", memoryMiB: 8_192)
        let here = try await plane.addHost("here", memoryMiB: 4_096)
        await gone.stop()
        let (instance, task) = try await plane.create()
        #expect(try await plane.wait(for: instance.id) { $0.vmState == .active }.host == here.name)
        let cleanup = try await plane.database.tasks.list(instance: instance.id, unfinishedOnly: true, limit: 10)
            .filter { $0.kind == TaskKind.cleanup }
        #expect(cleanup.count == 1)
        #expect(cleanup.first?.parent == task)
        await here.stop()
        await plane.stop()
    }

    @Test("The only host is asked again while its agent starts anew")
    func restarting() async throws {
        let plane = try await ControlPlane()
        let host = try await plane.addHost("one")
        await host.stop()
        let (instance, task) = try await plane.create()
        _ = try await eventually("the host to be tried") {
            let state = try await plane.database.tasks.find(task).map { String(decoding: $0.state, as: UTF8.self) }
            return state?.contains("unreachableSince") == true ? true : nil
        }
        #expect(try await plane.database.instances.find(instance.id)?.vmState == .building)
        try host.start()
        #expect(try await plane.wait(for: instance.id) { $0.vmState == .active }.host == host.name)
        await host.stop()
        await plane.stop()
    }
}
