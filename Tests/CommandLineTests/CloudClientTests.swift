import HTTP
import Model
import Synchronization
import Testing

@testable import CommandLine

/// A cloud in memory: identity with one user, and answers by method and path.
final class FakeCloud: Sendable {
    struct State {
        var tokens: Set<String> = []
        var issued = 0
        var asked: [String] = []
        var bodies: [JSON] = []
    }

    static let origin = "http://cloud:8774"
    private let state = Mutex(State())
    private let answers: [String: (Int, JSON)]

    init(_ answers: [String: (Int, JSON)]) { self.answers = answers }

    /// Method and path of every request but logins, in order.
    var asked: [String] { state.withLock { $0.asked } }
    /// What came with those that had a body.
    var bodies: [JSON] { state.withLock { $0.bodies } }
    var logins: Int { state.withLock { $0.issued } }

    /// Tokens issued so far are no longer valid.
    func expire() { state.withLock { $0.tokens = [] } }

    func client(password: String = "right", region: String? = nil) -> CloudClient {
        let settings = CloudSettings(
            authURL: "\(Self.origin)/identity", username: "u", password: password, projectName: "p", regionName: region,
            origin: "a test")
        return CloudClient(settings: settings) { [self] request throws(HTTPClientError) in answer(request) }
    }

    private func answer(_ request: ClientRequest) -> ClientResponse {
        if request.url == "\(Self.origin)/identity/v3/auth/tokens" { return login(request) }
        let path = String(request.url.dropFirst(Self.origin.count))
        let isKnown = state.withLock { state in
            state.asked.append("\(request.method.rawValue) \(path)")
            if case .bytes(let bytes) = request.body, let body = try? JSON(parsing: bytes) { state.bodies.append(body) }
            return state.tokens.contains(request.headers["X-Auth-Token"] ?? "")
        }
        guard isKnown else { return response(401, ["error": ["message": "no such token"]]) }
        guard let (status, body) = answers["\(request.method.rawValue) \(path)"] else {
            return response(404, ["itemNotFound": ["code": 404, "message": .string("Nothing is at \(path).")]])
        }
        return response(status, body)
    }

    private func login(_ request: ClientRequest) -> ClientResponse {
        guard case .bytes(let bytes) = request.body, let body = try? JSON(parsing: bytes),
            body["auth"]?["identity"]?["password"]?["user"]?["password"]?.text == "right"
        else { return response(401, ["error": ["code": 401, "message": "wrong password"]]) }
        let token = state.withLock { state -> String in
            state.issued += 1
            state.tokens.insert("t\(state.issued)")
            return "t\(state.issued)"
        }
        func endpoint(_ type: JSON, _ path: String) -> JSON {
            [
                "type": type,
                "endpoints": [
                    ["interface": "admin", "region": "R", "url": "http://wrong"],
                    ["interface": "public", "region": "R", "url": .string(Self.origin + path)],
                ],
            ]
        }
        var made = response(
            201, ["token": ["catalog": [endpoint("compute", "/compute/v2.1"), endpoint("image", "/image")]]])
        made.headers["X-Subject-Token"] = token
        return made
    }

    private func response(_ status: Int, _ body: JSON) -> ClientResponse {
        var headers = HTTPFields()
        headers["x-openstack-request-id"] = "req-1"
        return ClientResponse(status: status, headers: headers, body: body.serialized())
    }
}

@Suite("Requests to a cloud")
struct CloudClientTests {
    @Test("One login serves many requests, each to its service's public endpoint")
    func endpoints() async throws {
        let cloud = FakeCloud([
            "GET /compute/v2.1/flavors/detail": (200, ["flavors": []]), "GET /image/v2/images": (200, ["images": []]),
            "GET /apus/v1/tasks?all=true": (200, ["tasks": []]),
        ])
        let client = cloud.client(region: "R")
        #expect(try await allFlavors(client).isEmpty)
        #expect(try await allImages(client).isEmpty)
        #expect(try await client.apus(.get, "/tasks", query: [("all", "true")])["tasks"] == [])
        #expect(cloud.logins == 1)
    }

    @Test("A token that has ended is replaced once, unseen")
    func relogin() async throws {
        let cloud = FakeCloud(["GET /compute/v2.1/flavors/detail": (200, ["flavors": []])])
        let client = cloud.client()
        _ = try await allFlavors(client)
        cloud.expire()
        _ = try await allFlavors(client)
        #expect(cloud.logins == 2)
    }

    @Test("A wrong password says which user, where, and by whose settings")
    func wrongPassword() async {
        let sentence =
            "The cloud at http://cloud:8774/identity does not accept user 'u' for project 'p' (from a test): wrong password."
        await #expect(throws: CommandError.failure(sentence)) {
            _ = try await allFlavors(FakeCloud([:]).client(password: "wrong"))
        }
    }

    @Test("A region that the catalog does not have is named")
    func region() async {
        await #expect(throws: CommandError.failure("The cloud's catalog has no compute service in region X.")) {
            _ = try await allFlavors(FakeCloud([:]).client(region: "X"))
        }
    }

    @Test("A refusal carries the API's sentence, its code and the request's id")
    func refusal() async {
        let cloud = FakeCloud([
            "GET /compute/v2.1/flavors/detail": (403, ["forbidden": ["code": 403, "message": "Not you."]])
        ])
        await #expect(throws: APIError(status: 403, message: "Not you.", requestID: "req-1")) {
            _ = try await allFlavors(cloud.client())
        }
        #expect(
            describe(APIError(status: 403, message: "Not you.", requestID: "req-1")) == "Not you. (HTTP 403) [req-1]")
    }

    @Test("A refused connection names the address, where it comes from, and what to look at")
    func connection() async {
        let settings = CloudSettings(
            authURL: "http://127.0.0.1:1", username: "u", password: "p", projectName: "p", origin: "the OS_* variables")
        let client = CloudClient(settings: settings) { request throws(HTTPClientError) in
            throw .connectFailed(url: request.url, reason: "connection refused")
        }
        await #expect {
            _ = try await allFlavors(client)
        } throws: { error in
            let text = describe(error)
            return text.contains("http://127.0.0.1:1/v3/auth/tokens (connection refused)") && text.contains("`apus up`")
                && text.contains("the OS_* variables")
        }
    }

    private static func row(_ id: String, _ name: String) -> JSON { ["id": .string(id), "name": .string(name)] }

    @Test("A server is found by its id, else by its whole name, and two of a name are not guessed between")
    func servers() async throws {
        let cloud = FakeCloud([
            "GET /compute/v2.1/servers/id-1": (200, ["server": Self.row("id-1", "web")]),
            "GET /compute/v2.1/servers/detail?name=%5Ea%5C.b%24": (200, ["servers": [Self.row("id-2", "a.b")]]),
            "GET /compute/v2.1/servers/detail?name=%5Etwin%24": (
                200, ["servers": [Self.row("id-3", "twin"), Self.row("id-4", "twin")]]
            ),
            "GET /compute/v2.1/servers/detail?name=%5Enone%24": (200, ["servers": []]),
        ])
        let client = cloud.client()
        #expect(try await findServer("id-1", client)["name"] == "web")
        #expect(try await findServer("a.b", client)["id"] == "id-2")
        await #expect(
            throws: CommandError.failure("2 servers are called 'twin'; say which by its id: id-3, id-4.")
        ) { _ = try await findServer("twin", client) }
        await #expect(throws: CommandError.failure("There is no server 'none'.")) {
            _ = try await findServer("none", client)
        }
    }

    @Test("Pages are followed to the end, and a page that repeats itself ends the walk")
    func pages() async throws {
        let link: JSON = [["rel": "next", "href": "x"]]
        let cloud = FakeCloud([
            "GET /compute/v2.1/servers/detail": (200, ["servers": [Self.row("1", "a")], "servers_links": link]),
            "GET /compute/v2.1/servers/detail?marker=1": (
                200, ["servers": [Self.row("2", "b")], "servers_links": link]
            ),
            "GET /compute/v2.1/servers/detail?marker=2": (
                200, ["servers": [Self.row("2", "b")], "servers_links": link]
            ),
        ])
        #expect(try await allServers(cloud.client(), query: []).compactMap { $0["id"]?.text } == ["1", "2", "2"])
    }

    @Test("Tasks are followed to the last page, with what was asked for")
    func taskPages() async throws {
        let cloud = FakeCloud([
            "GET /apus/v1/tasks?all=true": (
                200, ["tasks": [["id": "2"]], "tasks_links": [["rel": "next", "href": "x"]]]
            ),
            "GET /apus/v1/tasks?all=true&marker=2": (200, ["tasks": [["id": "1"]]]),
        ])
        let tasks = try await allTasks(cloud.client(), query: [("all", "true")])
        #expect(tasks.compactMap { $0["id"]?.text } == ["2", "1"])
    }

    @Test("A guest agent that answers is told with its time, one that does not is an error")
    func guestAgent() throws {
        let answer: JSON = ["answers": true, "milliseconds": 1.26]
        #expect(try guestAgentFact(answer, of: "web") == "The guest agent of web answers in 1.3 ms.")
        #expect(throws: CommandError.self) { try guestAgentFact(["answers": false, "milliseconds": 9], of: "web") }
    }

    @Test("Query text is encoded byte by byte")
    func encoding() {
        #expect(percentEncoded("a b/ü&=~") == "a%20b%2F%C3%BC%26%3D~")
        #expect(encoded([("a", "1"), ("b", "&")]) == "?a=1&b=%26")
        #expect(encoded([]).isEmpty)
    }
}
