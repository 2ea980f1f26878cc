import Database
import HTTP
import Model
import Testing

@testable import ComputeAPI

@Suite("Microversions")
struct MicroversionTests {
    @Test("The history has every minor once, and the maximum ends below the first that is missing")
    func history() {
        let changes = MicroversionHistory.changes
        #expect(changes.map(\.minor) == Array(2...(changes.count + 1)))
        let firstMissing = changes.first { if case .missing = $0.state { true } else { false } }
        #expect(MicroversionHistory.maximum.minor == (firstMissing?.minor ?? changes.count + 2) - 1)
        #expect(MicroversionHistory.maximum.minor == 100)
    }

    @Test("What the history calls not served is answered as not there, or not available yet")
    func notServed() async throws {
        let cloud = try await ComputeFixture()
        let id = try await cloud.makeActive()
        for path in [
            "os-hosts", "os-simple-tenant-usage",
            "os-fixed-ips/1",
            "servers/\(id)/os-volume_attachments", "os-console-auth-tokens/x",
        ] {
            #expect(await cloud.send(.get, path, as: "p1/admin", at: "2.100").status == 404, "\(path)")
        }
    }

    @Test(
        "A request gets the version it asks for, by either header",
        arguments: [
            (nil, nil, "2.1"), ("compute 2.37", nil, "2.37"), (nil, "2.26", "2.26"), ("compute 2.8", "2.26", "2.8"),
            ("volume 3.5", "2.26", "2.26"), ("volume 3.5, compute 2.30", nil, "2.30"), ("compute latest", nil, "2.100"),
            (nil, "latest", "2.100"), ("identity 9.9", nil, "2.1"),
        ] as [(String?, String?, String)])
    func negotiation(new: String?, old: String?, expected: String) async throws {
        let cloud = try await ComputeFixture()
        var request = HTTPRequest(.get, "/v2.1/flavors", headers: ["X-Auth-Token": "p1/member"])
        request.headers["openstack-api-version"] = new
        request.headers["x-openstack-nova-api-version"] = old
        let answer = await cloud.router.handle(request)
        #expect(answer.status == 200)
        #expect(answer.headers["X-OpenStack-Nova-API-Version"] == expected)
        #expect(answer.headers["OpenStack-API-Version"] == "compute " + expected)
        #expect(answer.headers.all("Vary") == ["OpenStack-API-Version", "X-OpenStack-Nova-API-Version"])
    }

    @Test(
        "A version out of range is 406 and echoed; what is no version is 400",
        arguments: ["2.0", "2.999", "3.1", "1.1"])
    func outOfRange(version: String) async throws {
        let cloud = try await ComputeFixture()
        let reply = await cloud.send(.get, "flavors", at: version)
        #expect(reply.status == 406)
        #expect(reply.json["computeFault"]?["code"] == 406)
        #expect(reply.message == "Version \(version) is not supported by the API. Minimum is 2.1 and maximum is 2.100.")
        #expect(reply.response.headers["X-OpenStack-Nova-API-Version"] == version)
        for text in ["2", "2.x", "2.1.1", "two", "2.-1", "2.01", "2.99999999999999999999"] {
            #expect(await cloud.send(.get, "flavors", at: text).status == 400, "\(text)")
        }
    }

    @Test("While the database cannot be used a request is answered 503, with the time to come again")
    func outage() async throws {
        let cloud = try await ComputeFixture()
        await cloud.database.close()
        let reply = await cloud.send(.get, "flavors", at: "2.1")
        #expect(reply.status == 503 && reply.message == "the database is closed; try again.")
        #expect(reply.response.headers["Retry-After"] == "5")
        let made = await cloud.send(.post, "servers", ComputeFixture.server())
        #expect(made.status == 503)
    }

    @Test("Every answer carries one request id under two names; another one each time")
    func requestIDs() async throws {
        let cloud = try await ComputeFixture()
        var seen: Set<String> = []
        for path in ["flavors", "unknown", "servers/x"] {
            let headers = await cloud.send(.get, path).response.headers
            let id = try #require(headers["x-openstack-request-id"])
            #expect(id.hasPrefix("req-") && id.utf8.count == 40)
            #expect(headers["x-compute-request-id"] == id)
            seen.insert(id)
        }
        #expect(seen.count == 3)
    }

    @Test("The version documents need no token and name the host the client used")
    func documents() async throws {
        let cloud = try await ComputeFixture()
        let list = await cloud.send(cloud.router, .get, "/", as: nil)
        #expect(list.status == 200)
        #expect(list.json["versions"]?[0]?["id"] == "v2.0")
        #expect(list.json["versions"]?[0]?["version"] == "")
        let current = try #require(list.json["versions"]?[1])
        #expect(current["version"] == "2.100" && current["min_version"] == "2.1" && current["status"] == "CURRENT")
        for path in ["/v2.1", "/v2.1/"] {
            let document = await cloud.send(cloud.router, .get, path, as: nil)
            #expect(document.status == 200)
            var members = try #require(document.json["version"]?.members)
            #expect(members.removeValue(forKey: "media-types") != nil)
            #expect(JSON.object(members) == current)
        }
        #expect(await cloud.send(cloud.router, .get, "/v2/", as: nil).json["version"]?["id"] == "v2.0")
    }
}
