import HTTP
import Model
import RPC
import Testing

@testable import Compute

@Suite("The metadata service", .timeLimit(.minutes(2)))
struct MetadataServiceTests {
    private static let table = """
        IP address       HW type     Flags       HW address            Mask     Device
        192.168.122.7    0x1         0x2         FA:16:3e:00:00:01     *        virbr0
        192.168.122.8    0x1         0x0         00:00:00:00:00:00     *        virbr0
        192.168.122.9    0x1         0x6         fa:16:3e:00:00:03     *        br1
        garbage
        10.0.0.1 0x1 x fa:16:3e:00:00:04 * virbr0
        """

    @Test("A neighbour counts on its device alone, and when it has answered")
    func neighbours() {
        let found = Neighbours(Self.table)
        #expect(found.mac(of: "192.168.122.7", on: "virbr0") == "fa:16:3e:00:00:01")
        #expect(found.mac(of: "192.168.122.7", on: "br1") == nil)
        #expect(found.mac(of: "192.168.122.8", on: "virbr0") == nil)
        #expect(found.mac(of: "192.168.122.9", on: "br1") == "fa:16:3e:00:00:03")
        #expect(found.mac(of: "10.0.0.1", on: "virbr0") == nil && Neighbours("").mac(of: "", on: "") == nil)
    }

    /// A service on a bridge with one guest, and the neighbours that it sees.
    private func ask(
        _ path: String, from address: String, mac: String? = nil, bridge: String = "virbr0", method: HTTPMethod = .get,
        headers: HTTPFields = [:]
    ) async throws -> (HTTPResponse, Int) {
        let bench = try Bench()
        var instance = Instance.test()
        instance.userData = "aGk="
        let made = instance
        return try await bench.run { agent in
            try await agent.built(made)
            agent.driver.host.change { $0.bridges = ["virbr0"] }
            agent.conductor.script { $0.placed = [made] }
            let nic = try #require(try await agent.core.journal.guest(made.id)?.specification.interfaces.first)
            let from = address == "own" ? nic.ipv4Address ?? "10.0.0.1" : address
            let table = Neighbours(
                "headings\n\(from) 0x1 0x2 \(mac ?? nic.macAddress) * virbr0\n\(from) 0x1 0x2 \(nic.macAddress) * br7")
            let service = MetadataService(
                host: HostName("host1"), driver: agent.driver, journal: agent.core.journal, client: agent.core.client,
                cacheLifetime: .seconds(15), neighbours: { table })
            var request = HTTPRequest(method, path, headers: headers)
            request.remoteAddress = from
            let first = await service.answer(request, on: bridge)
            _ = await service.answer(request, on: bridge)
            return (first, agent.conductor.heard.instancesFetched)
        }
    }

    @Test("A guest is told of itself, and the conductor is asked once for a while")
    func told() async throws {
        let (answer, fetched) = try await ask("/openstack/latest/user_data", from: "own")
        guard case .bytes(let bytes) = answer.body else { throw Failure(.internalError, "no bytes") }
        #expect(answer.status == 200 && String(decoding: bytes, as: UTF8.self) == "hi" && fetched == 1)
        #expect(try await ask("/openstack/latest/nothing", from: "own").0.status == 404)
        #expect(try await ask("/latest/meta-data", from: "own", method: .post).0.status == 405)
    }

    @Test("Whoever is not proven gets 404, and costs the conductor nothing")
    func refused() async throws {
        let claims: HTTPFields = [
            "X-Forwarded-For": "10.0.0.1", "X-Instance-ID": "8d3d17a5-8b4f-4a1e-9d0d-8a3d3f0a0b11",
        ]
        let strangers = [
            try await ask("/latest/meta-data", from: "own", mac: "fa:16:3e:ff:ff:ff"),
            try await ask("/latest/meta-data", from: "203.0.113.9"),
            try await ask("/latest/meta-data", from: "own", bridge: "br7"),
            try await ask("/latest/meta-data", from: "own", bridge: "br8", headers: claims),
        ]
        for (answer, fetched) in strangers { #expect(answer.status == 404 && fetched == 0) }
    }
}
