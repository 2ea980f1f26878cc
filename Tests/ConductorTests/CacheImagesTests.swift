import Database
import Model
import RPC
import Synchronization
import Tasks
import Telemetry
import Testing

@testable import Conductor

@Suite("Images cached on hosts before they are needed", .timeLimit(.minutes(2)))
struct CacheImagesTests {
    private static func image(_ name: String) -> ImageReference {
        ImageReference(id: ImageID(name), format: .qcow2, sizeBytes: 1, virtualSizeBytes: 1, sha512: "00" + name)
    }

    private func begin(_ plane: ControlPlane, _ host: HostName, _ images: [String]) async throws -> TaskID {
        let row = try TaskEngine.makeRow(
            kind: TaskKind.cacheImages, requestID: RequestScope.makeID(),
            state: CacheImagesTaskState(host: host, images: images.map(Self.image)), now: WallClock.now())
        try await plane.database.tasks.insert([row])
        _ = try await plane.api.call(WakeConductor.self, .init())
        return row.id
    }

    @Test("A host is asked for one image after the other until it has them all")
    func all() async throws {
        try await ControlPlane.with { plane in
            let host = try await plane.addHost("one")
            host.state.withLock { $0.cacheDelays = 2 }
            let task = try await begin(plane, host.name, ["a", "b"])
            #expect(try await plane.waitForEnd(of: task).status == .succeeded)
            let asked = host.state.withLock { $0.cached }
            #expect(asked.map(\.image.id.rawValue) == ["a", "a", "a", "b"])
            #expect(asked.allSatisfy { $0.task == task && $0.host == host.name })
            await host.stop()
        }
    }

    @Test("A host that is down, or fails, ends its own task with the reason")
    func failures() async throws {
        try await ControlPlane.with { plane in
            let host = try await plane.addHost("one")
            host.state.withLock { $0.cacheFailure = Failure(.imageUnacceptable, "image a is gone") }
            let failed = try await plane.waitForEnd(of: try await begin(plane, host.name, ["a"]))
            #expect(failed.status == .failed && failed.lastError?.message == "image a is gone")
            let absent = try await plane.waitForEnd(of: try await begin(plane, HostName("two"), ["a"]))
            #expect(absent.status == .failed && absent.lastError?.message == "host two is down")
            await host.stop()
        }
    }

    @Test("Only the host of a task under way may read the images of that task")
    func tickets() async throws {
        try await ControlPlane.with { plane in
            let (one, two) = (try await plane.addHost("one"), try await plane.addHost("two"))
            one.state.withLock { $0.cacheDelays = .max }
            let task = try await begin(plane, one.name, ["a"])
            func ask(_ host: PlayedHost, _ task: TaskID, _ image: String) async throws {
                _ = try await host.conductor.call(
                    GetCacheTicket.self, .init(host: host.name, task: task, image: ImageID(image)))
            }
            try await ask(one, task, "a")
            await #expect(throws: Failure.self) { try await ask(two, task, "a") }
            await #expect(throws: Failure.self) { try await ask(one, task, "b") }
            await #expect(throws: Failure.self) { try await ask(one, TaskID("another"), "a") }
            let (instance, build) = try await plane.create()
            _ = try await plane.wait(for: instance.id) { $0.vmState == .active }
            await #expect(throws: Failure.self) { try await ask(one, build, instance.imageID.rawValue) }
            one.state.withLock { $0.cacheDelays = 0 }
            #expect(try await plane.waitForEnd(of: task).status == .succeeded)
            await #expect(throws: Failure.self) { try await ask(one, task, "a") }
            await one.stop()
            await two.stop()
        }
    }
}
