import Database
import Model
import RPC
import Synchronization
import Telemetry
import Testing

@testable import Conductor

@Suite("Hosts of several releases")
struct VersionTests {
    @Test("A host that has said nothing is spoken to in the first form; one that has, in its own")
    func forms() async throws {
        try await ControlPlane.with { plane in
            let host = try await plane.addHost("kvm1")
            let (first, _) = try await plane.create()
            let active = try await plane.wait(for: first.id) { $0.vmState == .active }
            #expect(active.node == "kvm1")
            #expect(host.state.withLock { $0.builds.first?.instance.node } == nil)
            #expect(host.state.withLock { $0.versions } == [RPCVersion(1, 0)])

            let answer = try await host.register(host.manifest)
            #expect(answer == .init(oldest: AgentVersion.oldest, current: AgentVersion.current))
            let (second, _) = try await plane.create()
            _ = try await plane.wait(for: second.id) { $0.vmState == .active }
            #expect(host.state.withLock { $0.builds.last?.instance.node } == "kvm1")
            #expect(host.state.withLock { $0.versions } == [RPCVersion(1, 0), BuildInstance.version])
        }
    }

    @Test("A host without the method is not asked, and the fault says what to do")
    func withoutMethod() async throws {
        try await ControlPlane.with { plane in
            let host = try await plane.addHost("kvm1")
            _ = try await host.register(
                PeerManifest(release: 2, methods: ["compute.delete_instance": RPCVersion(1, 0)]))
            let (instance, _) = try await plane.create()
            let failed = try await plane.wait(for: instance.id) { $0.vmState == .error }
            #expect(failed.fault?.message.contains("has no compute.build_instance: upgrade it") == true)
            #expect(host.state.withLock { $0.builds.isEmpty })
        }
    }

    @Test("An answer is in the caller's form")
    func answers() async throws {
        try await ControlPlane.with { plane in
            let host = try await plane.addHost("kvm1")
            let (instance, _) = try await plane.create()
            _ = try await plane.wait(for: instance.id) { $0.vmState == .active }
            let older = PeerManifest(
                release: 1,
                methods: [ListHostInstances.name: RPCVersion(1, 0), GetHostInstance.name: RPCVersion(1, 0)])
            let client = host.conductor
            #expect(
                try await client.call(ListHostInstances.self, .init(host: host.name)).instances.first?.node == "kvm1")
            let list = try await client.call(ListHostInstances.self, .init(host: host.name), manifest: older)
            #expect(list.instances.count == 1 && list.instances.first?.node == nil)
            let one = GetHostInstance.Params(host: host.name, instance: instance.id)
            #expect(try await client.call(GetHostInstance.self, one, manifest: older).instance.node == nil)
            #expect(try await client.call(GetHostInstance.self, one).instance.node == "kvm1")
        }
    }

    @Test("An agent that is too old, or says what cannot be, is refused, and what was known stays")
    func refused() async throws {
        try await ControlPlane.with { plane in
            let host = try await plane.addHost("kvm1")
            _ = try await host.register(host.manifest)
            let known = try await plane.database.credentials.manifest(of: host.name)
            let old = await #expect(throws: Failure.self) {
                try await host.register(PeerManifest(release: AgentVersion.oldest - 1, methods: [:]))
            }
            #expect(old?.kind == (AgentVersion.oldest > 1 ? .unsupportedVersion : .invalidParameters))
            let strange = await #expect(throws: Failure.self) {
                try await host.register(PeerManifest(release: 2, methods: ["": RPCVersion(1, 0)]))
            }
            #expect(strange?.kind == .invalidParameters)
            #expect(known != nil)
            #expect(try await plane.database.credentials.manifest(of: host.name) == known)
        }
    }
}
