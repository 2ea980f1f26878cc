import HTTP
import Model
import Scheduling
import Synchronization
import Testing

@testable import CommandLine

@Suite("What apus host rebalance says")
struct HostRebalanceTests {
    private static func host(_ name: String, vcpus: Int = 0, isDisabled: Bool = false) -> JSON {
        [
            "host": .string(name), "is_disabled": .bool(isDisabled), "availability_zone": "nova",
            "total": ["vcpus": 8, "memory_mib": 32_768, "disk_gib": 400],
            "used": [
                "vcpus": .integer(Int64(vcpus)), "memory_mib": .integer(Int64(vcpus * 1_024)),
                "disk_gib": .integer(Int64(vcpus * 10)),
            ],
        ]
    }

    private static func server(_ name: String, on host: String, _ more: [String: JSON] = [:]) -> JSON {
        let members: [String: JSON] = [
            "id": .string("id-\(name)"), "name": .string(name), "host": .string(host),
            "request": [
                "instances": [.string("id-\(name)")],
                "flavor": ["vcpus": 2, "memory_mib": 2_048, "root_gib": 20],
            ],
        ]
        return .object(members.merging(more) { $1 })
    }

    private static func proposal(
        _ hosts: [JSON], _ servers: [JSON], options: JSON = [:], scope: Rebalancer.Scope = .init(), moves: Int = 20
    ) throws -> RebalanceProposal {
        try RebalanceProposal(
            scope, .init(moves: moves), fleet: ["hosts": .array(hosts), "options": options], servers: servers)
    }

    private static let four = ["one", "two", "three", "four"].map { server($0, on: "a") }

    @Test("Moves are told with what they do to the spread and what the weighers say of them")
    func moves() throws {
        let hosts = [Self.host("a", vcpus: 10), Self.host("b"), Self.host("c", isDisabled: true)]
        let servers = Self.four + [Self.server("mine", on: "a", ["obstacle": "locked"])]
        let found = try Self.proposal(hosts, servers)
        #expect(found.text.hasPrefix("A dry run: nothing is moved. 2 moves lower the spread of load from "))
        let lines = found.text.split(separator: "\n").map(String.init)
        #expect(
            lines[1].split(separator: " ").joined(separator: " ")
                == "MOVE SERVER ID FROM TO VCPUS MEMORY MIB DISK GIB SPREAD AFTER")
        #expect(lines[2].contains("four") && lines[2].contains("id-four") && lines[2].contains("2048"))
        #expect(found.text.contains("RAMWeigher +") && found.text.contains("CPUWeigher +"))
        #expect(found.text.contains("Left alone of 5 servers: 1 locked."))
        #expect(found.text.contains("Disabled or down, and so not counted: c."))
        #expect(found.text.contains("apus server migrate ID --host TO"))
        let json = found.json
        #expect(json["dry_run"] == true && json["moves"]?.list?.count == 2 && json["end"] == "exhausted")
        let move = json["moves"]?[0]
        #expect(move?["name"] == "four" && move?["from"] == "a" && move?["to"] == "b")
        #expect(move?["resources"]?["memory_mib"] == 2_048 && move?["weights_to"]?[0]?["weigher"] == "RAMWeigher")
        #expect((move?["weight_to"]?.double ?? 0) > (move?["weight_from"]?.double ?? 0))
        #expect((move?["spread_after"]?.double ?? 1) < (move?["spread_before"]?.double ?? 0))
        #expect(json["left_alone"] == ["locked": 1] && json["unusable_hosts"] == ["c"])
        #expect(json["spread"]?["before"]?["resources"]?["vcpus"]?["most"] == 0.3125)
        #expect(json["hosts"]?.list?.count == 2 && json["hosts"]?[1]?["before"]?["vcpus"]?.double == 0)
    }

    @Test("Where nothing helps, that is said with the reason")
    func nothing() throws {
        let level = [Self.host("a", vcpus: 4), Self.host("b", vcpus: 4)]
        let servers = [Self.server("one", on: "a"), Self.server("two", on: "b")]
        let even = try Self.proposal(level, servers)
        #expect(even.text.hasPrefix("Nothing lowers the spread of load, which is 0.0 %."))
        #expect(even.text.contains("Not moved: 2 that would bring no two hosts nearer to each other by enough."))
        #expect(even.json["moves"] == [] && even.json["without_gain"] == ["no_gain": 2])
        let skewed = [Self.host("a", vcpus: 8), Self.host("b")]
        let packing = try Self.proposal(
            skewed, Self.four,
            options: [
                "filter_scheduler.ram_weight_multiplier": "-1", "filter_scheduler.cpu_weight_multiplier": "0",
                "filter_scheduler.disk_weight_multiplier": "0",
            ])
        #expect(packing.text.hasPrefix("Nothing to even out: the scheduler spreads servers by none of"))
        #expect(try Self.proposal([skewed[0]], Self.four).text.hasPrefix("Nothing to even out: fewer than two"))
        let few = try Self.proposal(skewed, Self.four, moves: 1)
        #expect(few.text.contains("1 move lowers") && few.text.contains("More would lower it further: --moves."))
    }

    @Test("A zone or an aggregate without hosts is refused, and so is what cannot be read")
    func unreadable() {
        let hosts = [Self.host("a")]
        #expect(throws: CommandError.failure("No host is in the availability zone east and in the aggregate fast.")) {
            try Self.proposal(hosts, [], scope: .init(zone: "east", aggregate: "fast"))
        }
        #expect(throws: CommandError.failure("No host has reported yet.")) { try Self.proposal([], []) }
        let stray = "The cloud's fleet cannot be read by this program: servers[0].new: there is no such member"
        #expect(throws: CommandError.failure(stray)) {
            try Self.proposal(hosts, [Self.server("one", on: "a", ["new": 1])])
        }
    }

    @Test("Every page of the servers is read")
    func pages() async throws {
        let asked = Mutex<[String]>([])
        let origin = "http://cloud:8774"
        let settings = CloudSettings(
            authURL: "\(origin)/identity", username: "u", password: "right", projectName: "p", origin: "a test")
        let client = CloudClient(settings: settings) { request throws(HTTPClientError) in
            let path = String(request.url.dropFirst(origin.count))
            asked.withLock { $0.append(path) }
            let body: JSON
            switch path {
            case "/apus/v1/fleet": body = ["hosts": [Self.host("a", vcpus: 8), Self.host("b")]]
            case "/apus/v1/fleet/servers":
                body = [
                    "servers": .array(Array(Self.four.prefix(2))), "servers_links": [["rel": "next", "href": "x"]],
                ]
            case "/apus/v1/fleet/servers?marker=id-two": body = ["servers": .array(Array(Self.four.suffix(2)))]
            default:
                let endpoints: JSON = [
                    ["interface": "public", "region": "R", "url": .string(origin + "/compute/v2.1")]
                ]
                body = ["token": ["catalog": [["type": "compute", "endpoints": endpoints]]]]
            }
            return ClientResponse(status: 200, headers: ["X-Subject-Token": "t"], body: body.serialized())
        }
        let found = try await RebalanceProposal.find(.init(), .init(), client)
        #expect(found.json["servers"] == 4 && found.json["moves"]?.list?.count == 2)
        #expect(asked.withLock { $0.count { $0.contains("/fleet/servers") } } == 2)
    }

    @Test("Without --dry-run, and with a wrong number of moves, the command is not understood")
    func usage() async {
        let transcript = Transcript()
        for (words, sentence) in [
            (["host", "rebalance"], "Only the dry run exists: apus host rebalance --dry-run."),
            (["host", "rebalance", "--dry-run", "--moves", "0"], "--moves"),
        ] {
            let code = await ApusProgram.run(words, transcript.terminal)
            #expect(code == 2 && transcript.err.contains(sentence), "\(transcript.err)")
        }
    }
}
