import ComputeAPI
import HTTP
import Model
import RPC
import Tasks
import Testing

@Suite("The guest's agent")
struct GuestAgentTests {
    private static func conductor(_ ping: @escaping @Sendable () throws -> PingGuestAgent.Result) -> ConductorLink {
        ConductorLink(
            wake: {}, consoleOutput: { _, _ in "" }, diagnostics: { _ in ComputeFixture.diagnostics },
            topology: { _ in ComputeFixture.topology },
            guestAgent: { _ in try ping() }, crashDump: { _ in }, forceMigration: { _, _ in },
            claims: { host, _ in throw Failure(.unreachable, "\(host)") }, forget: { _ in })
    }

    private func ping(
        _ cloud: ComputeFixture, _ id: String, as token: String = "p1/member"
    ) async -> ComputeFixture.Reply {
        await cloud.send(cloud.admin, .get, "/servers/\(id)/guest-agent", as: token)
    }

    @Test("Whether it answers and in what time is told to the server's project and to administrators")
    func told() async throws {
        let cloud = try await ComputeFixture(
            conductor: Self.conductor { .init(isAnswering: true, milliseconds: 1.25) })
        let id = try await cloud.makeActive()
        for token in ["p1/member", "p0/admin"] {
            let reply = await ping(cloud, id, as: token)
            #expect(reply.status == 200)
            #expect(reply.json["guest_agent"] == ["answers": true, "milliseconds": 1.25])
        }
        #expect(await ping(cloud, id, as: "p1/reader").status == 403)
        #expect(await ping(cloud, id, as: "p2/member").status == 404)
        #expect(await ping(cloud, "x").status == 404)
        #expect(await cloud.send(cloud.admin, .get, "/servers/\(id)/guest-agent", as: nil).status == 401)
    }

    @Test("One that does not answer is no error; a guest that is off is, and so is a host that is away")
    func silent() async throws {
        let cloud = try await ComputeFixture(
            conductor: Self.conductor { .init(isAnswering: false, milliseconds: 5_000) })
        let id = try await cloud.makeActive()
        #expect(await ping(cloud, id).json["guest_agent"]?["answers"] == false)
        try await cloud.settle(id, .stopped, power: .shutdown)
        #expect(await ping(cloud, id).status == 409)
        let away = try await ComputeFixture(
            conductor: Self.conductor { throw Failure(.unreachable, "host kvm1 does not answer", isRetriable: true) })
        let other = try await away.makeActive()
        #expect(await ping(away, other).status == 503)
    }
}
