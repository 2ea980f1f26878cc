import HTTP
import Model
import Synchronization
import Testing

@testable import CommandLine

@Suite("A host that is declared dead")
struct HostDeathTests {
    private static let origin = "http://cloud:8774"

    /// What the command said, and what the control plane got.
    private func run(
        _ words: [String], _ answer: ClientResponse
    ) async throws -> (said: String, url: String?, body: JSON?) {
        let transcript = Transcript()
        let got = Mutex<(url: String, body: JSON?)?>(nil)
        let settings = CloudSettings(
            authURL: "\(Self.origin)/identity", username: "u", password: "right", projectName: "p", origin: "a test")
        let client = CloudClient(settings: settings) { request throws(HTTPClientError) in
            guard request.url.contains("/apus/v1/") else { return Self.login }
            var body: JSON?
            if case .bytes(let bytes) = request.body { body = try? JSON(parsing: bytes) }
            got.withLock { $0 = (request.url, body) }
            return answer
        }
        let command = Command.confirmDead
        let invocation = try Invocation(words, options: command.options, arguments: command.arguments)
        try await confirmDeadHost(
            invocation, ClientContext(client: client, terminal: transcript.terminal, wantsJSON: false))
        let sent = got.withLock { $0 }
        return (transcript.out, sent?.url, sent?.body)
    }

    @Test("The operator's evidence goes to the control plane, word by word")
    func told() async throws {
        let answer = ClientResponse(
            status: 200, headers: [:], body: JSON.object(["host": ["name": "kvm1"]]).serialized())
        let (said, url, body) = try await run(["kvm1", "--evidence", "its rack has no power"], answer)
        #expect(url == "\(Self.origin)/apus/v1/hosts/kvm1/confirm-dead")
        #expect(body == ["confirm_dead": ["evidence": "its rack has no power"]])
        #expect(said.contains("kvm1 is dead by your word"))
    }

    @Test("Without evidence nothing is asked", arguments: [["kvm1"], ["kvm1", "--evidence", ""]])
    func silent(words: [String]) async throws {
        let answer = ClientResponse(status: 500, headers: [:], body: [])
        await #expect(throws: CommandError.self) { _ = try await run(words, answer) }
    }

    @Test("What the control plane refuses is told")
    func refused() async throws {
        let answer = ClientResponse(
            status: 409, headers: [:],
            body: JSON.object(["conflictingRequest": ["message": "it is heard of"]]).serialized())
        let error = await #expect(throws: (any Error).self) { _ = try await run(["kvm1", "--evidence", "e"], answer) }
        #expect(error.map { "\($0)".contains("it is heard of") } == true)
    }

    private static var login: ClientResponse {
        let service: JSON = [
            "type": "compute",
            "endpoints": [["interface": "public", "region": "R", "url": .string(origin + "/compute/v2.1")]],
        ]
        var made = ClientResponse(
            status: 201, headers: [:], body: JSON.object(["token": ["catalog": [service]]]).serialized())
        made.headers["X-Subject-Token"] = "t"
        return made
    }
}
