import Database
import HTTP
import Model
import RPC
import Tasks
import Telemetry
import Testing

@testable import Conductor

@Suite("Rebuilds from another image")
struct RebuildTests {
    private let former = FormerImage(id: ImageID("old"), properties: ["os_type": "linux"])

    private func material(_ id: String, _ properties: [String: String]) -> GuestMaterial {
        GuestMaterial(
            image: ImageReference(
                id: ImageID(id), format: .raw, sizeBytes: 1, virtualSizeBytes: 1, sha512: "d", properties: properties),
            adminPassword: "geheim")
    }

    /// Accepts a rebuild of an instance in `state` as the API does.
    private func rebuild(
        _ instance: InstanceID, to image: String, _ properties: [String: String], from state: VMState = .active,
        kind: String = TaskKind.rebuild, _ plane: ControlPlane
    ) async throws -> TaskID {
        _ = try await plane.database.instances.update(instance, now: WallClock.now()) { instance in
            instance.vmState = state
            (instance.imageID, instance.imageProperties) = (ImageID(image), properties)
        }
        return try await plane.accept(
            .rebuild, instance, kind: kind,
            GuestTaskState(instance: instance, command: .rebuild(material(image, properties)), formerImage: former))
    }

    @Test(
        "One that its own host may not have leaves the instance as it was, with the reason",
        arguments: [VMState.active, .stopped, .error])
    func refused(state: VMState) async throws {
        try await ControlPlane.with { plane in
            let host = try await plane.addHost("kvm1")
            let instance = try await plane.running()
            let task = try await rebuild(instance.id, to: "new", ["hw_architecture": "aarch64"], from: state, plane)
            let row = try await plane.waitForEnd(of: task)
            #expect(row.status == .failed && row.lastError?.kind == .noValidHost)
            #expect(host.commands("rebuild").isEmpty)
            #expect(!String(decoding: row.state, as: UTF8.self).contains("geheim"))
            let after = try #require(try await plane.database.instances.find(instance.id))
            #expect(after.vmState == state && after.taskState == nil && after.host == host.name)
            #expect(after.imageID == former.id && after.imageProperties == former.properties)
            let message = "No valid host was found. Of 1 host: 1 not of the architecture aarch64."
            #expect(after.fault?.message == message)
            #expect(after.fault?.details == "ImagePropertiesFilter: 1 host not of the architecture aarch64")
            let action = try #require(
                try await plane.database.actions.list(instance.id).first { $0.kind == .rebuild })
            #expect(action.message == "Error")
            let events = try await plane.database.actions.events(instance.id, action.requestID)
            #expect(events.contains { $0.result == "Error" && $0.details == message })
        }
    }

    @Test("One that its host may have goes ahead, however full the host is, and nothing more is promised there")
    func allowed() async throws {
        try await ControlPlane.with { plane in
            let host = try await plane.addHost("kvm1", memoryMiB: 512)
            let instance = try await plane.running()
            // None of the room that the instance has is free.
            let task = try await rebuild(instance.id, to: "new", ["hw_architecture": "amd64"], plane)
            #expect(try await plane.waitForEnd(of: task).status == .succeeded)
            #expect(host.commands("rebuild").count == 1)
            #expect(try await plane.database.instances.find(instance.id)?.imageID == ImageID("new"))
        }
    }

    @Test(
        "What its host has had before, and a rebuild that an earlier version began, is not asked about",
        arguments: [("old", TaskKind.rebuild), ("new", TaskKind.guest)])
    func unasked(image: String, kind: String) async throws {
        try await ControlPlane.with { plane in
            let host = try await plane.addHost("kvm1")
            let instance = try await plane.running()
            let task = try await rebuild(instance.id, to: image, ["hw_architecture": "aarch64"], kind: kind, plane)
            #expect(try await plane.waitForEnd(of: task).status == .succeeded)
            #expect(host.commands("rebuild").count == 1)
        }
    }

    private struct AnyPeer: PeerVerifier {
        func verify(peer: String, secret: String) async throws -> Peer? { .service("conductor") }
    }

    @Test(
        "A scheduler of an earlier version, which does not know the question, is waited for; asking again does no harm")
    func earlierScheduler() async throws {
        let rpc = RPCServer(
            name: "scheduler", verifier: AnyPeer(), idempotency: MemoryIdempotencyStore(), now: WallClock.now)
        var router = Router()
        rpc.mount(on: &router)
        let server = HTTPServer(ServerConfiguration(name: "scheduler", address: "127.0.0.1", port: 0), router: router)
        try server.start()
        let http = HTTPClient()
        let database = try await ControlDatabase.open(path: nil)
        var instance = Instance(
            id: InstanceID("i"), projectID: ProjectID("p"), userID: UserID("u"), name: "i", hostname: "i",
            flavor: Flavor(id: FlavorID("1"), name: "f", vcpus: 1, memoryMiB: 512, rootGiB: 1),
            imageID: ImageID("new"), reservationID: "r-1", createdAt: WallClock.now())
        instance.host = HostName("kvm1")
        let made = try await database.instances.create([instance], actions: [], tasks: [])
        let step = CheckHost(
            ledger: InstanceLedger(instances: database.instances),
            scheduler: RPCClient(
                http: http,
                peers: [
                    PeerAddress(
                        url: "http://127.0.0.1:\(server.port)",
                        credential: PeerCredential(peer: "service:conductor", secret: "s"))
                ]))
        var state = GuestTaskState(
            instance: instance.id, command: .rebuild(material("new", [:])), formerImage: former)
        let row = try TaskEngine.makeRow(
            kind: TaskKind.rebuild, instance: instance.id, requestID: RequestScope.makeID(),
            generation: made[0].fence.generation, state: state, now: WallClock.now())
        let context = StepContext(row: row, now: WallClock.now, isCancelRequested: { false })
        guard case .wait(.some) = try await step.run(&state, context) else {
            Issue.record("an earlier scheduler was not waited for")
            return
        }
        #expect(state.isHostInQuestion == true)
        rpc.register(CheckRebuild.self, allowed: [.conductor]) { params, _ in
            #expect(params.host == HostName("kvm1") && params.request.imageID == ImageID("new"))
            #expect(params.request.flavor == nil)
            return .init(refusal: nil)
        }
        for _ in 0..<2 {
            #expect(try await step.run(&state, context) == .next)
            #expect(state.isHostInQuestion == nil)
        }
        await http.shutdown()
        await server.stop(grace: .zero)
    }
}
