import HTTP
import Model
import Testing

@testable import CommandLine

@Suite("apus server console")
struct ServerConsoleTests {
    @Test(
        "What the guest has said is printed; where it has said nothing that is told, beside the output",
        arguments: [("tick 1", "tick 1\n", ""), ("", "", "web has said nothing on its console yet.\n")])
    func printed(said: String, out: String, err: String) async throws {
        let cloud = FakeCloud([
            "GET /compute/v2.1/servers/s1": (200, ["server": ["id": "s1", "name": "web"]]),
            "POST /compute/v2.1/servers/s1/action": (200, ["output": .string(said)]),
        ])
        let transcript = Transcript()
        let invocation = try Invocation(
            ["s1", "--lines", "5"], options: [OptionSpec(name: "lines", value: "N", help: "")],
            arguments: [ArgumentSpec(name: "SERVER", help: "")])
        try await printConsole(
            invocation, ClientContext(client: cloud.client(), terminal: transcript.terminal, wantsJSON: false))
        #expect(transcript.out == out && transcript.err == err)
        #expect(cloud.bodies == [["os-getConsoleOutput": ["length": 5]]])
    }
}
