import HTTP
import Model
import Testing

@testable import CommandLine

@Suite("apus server live-migrate, migration-abort, migration-force-complete")
struct LiveMigrateCommandTests {
    private static let server: JSON = [
        "id": "s1", "name": "web", "status": "ACTIVE", "OS-EXT-STS:task_state": .null,
        "OS-EXT-SRV-ATTR:host": "kvm1",
    ]

    private func invocation(_ words: [String]) throws -> Invocation {
        try Invocation(
            words,
            options: [
                OptionSpec(name: "host", value: "HOST", help: ""),
                OptionSpec(name: "block-migration", value: "auto|yes|no", help: ""),
                OptionSpec(name: "wait", help: ""), OptionSpec(name: "timeout", value: "SECONDS", help: ""),
            ], arguments: [ArgumentSpec(name: "SERVER", help: "")])
    }

    private func context(_ cloud: FakeCloud, _ transcript: Transcript) -> ClientContext {
        ClientContext(client: cloud.client(), terminal: transcript.terminal, wantsJSON: false)
    }

    @Test(
        "It is asked for with what was typed",
        arguments: [
            (["s1"], ["host": .null, "block_migration": "auto"]),
            (["s1", "--host", "kvm2", "--block-migration", "yes"], ["host": "kvm2", "block_migration": true]),
            (["s1", "--block-migration=no"], ["host": .null, "block_migration": false]),
        ] as [([String], JSON)])
    func asked(words: [String], argument: JSON) async throws {
        let cloud = FakeCloud([
            "GET /compute/v2.1/servers/s1": (200, ["server": Self.server]),
            "POST /compute/v2.1/servers/s1/action": (202, .null),
        ])
        let transcript = Transcript()
        try await liveMigrate(try invocation(words), context(cloud, transcript))
        #expect(cloud.bodies == [["os-migrateLive": argument]])
        #expect(transcript.out.contains("web is ACTIVE"))
    }

    @Test("A choice that there is not is told, and nothing asked")
    func refused() async throws {
        let cloud = FakeCloud([:])
        await #expect(throws: CommandError.usage("--block-migration is auto, yes or no.")) {
            try await liveMigrate(try invocation(["s1", "--block-migration", "maybe"]), context(cloud, Transcript()))
        }
        #expect(cloud.asked.isEmpty)
    }

    @Test("Waited for, one that came to nothing is a failure with the reason of its last action")
    func stayed() async throws {
        let cloud = FakeCloud([
            "GET /compute/v2.1/servers/s1": (200, ["server": Self.server]),
            "POST /compute/v2.1/servers/s1/action": (202, .null),
            "GET /compute/v2.1/servers/s1/os-instance-actions": (
                200, ["instanceActions": [["request_id": "r1", "message": "Error"]]]
            ),
            "GET /compute/v2.1/servers/s1/os-instance-actions/r1": (
                200, ["instanceAction": ["events": [["details": "another processor"]]]]
            ),
        ])
        await #expect(throws: CommandError.failure("It stays on kvm1: another processor")) {
            try await liveMigrate(try invocation(["s1", "--wait"]), context(cloud, Transcript()))
        }
    }

    @Test("The one that is under way is found and ended; without one nothing is asked")
    func ended() async throws {
        let cloud = FakeCloud([
            "GET /compute/v2.1/servers/s1": (200, ["server": Self.server]),
            "GET /compute/v2.1/servers/s1/migrations": (200, ["migrations": [["id": 7, "status": "running"]]]),
            "DELETE /compute/v2.1/servers/s1/migrations/7": (202, .null),
            "POST /compute/v2.1/servers/s1/migrations/7/action": (202, .null),
        ])
        let transcript = Transcript()
        try await endMigration(
            .delete, "", nil, "is broken off", try invocation(["s1"]), context(cloud, transcript))
        try await endMigration(
            .post, "/action", ["force_complete": .null], "is to end soon", try invocation(["s1"]),
            context(cloud, transcript))
        #expect(transcript.out == "Migration 7 of s1 is broken off.\nMigration 7 of s1 is to end soon.\n")
        #expect(cloud.bodies == [["force_complete": .null]])

        let idle = FakeCloud([
            "GET /compute/v2.1/servers/s1": (200, ["server": Self.server]),
            "GET /compute/v2.1/servers/s1/migrations": (200, ["migrations": []]),
        ])
        await #expect(throws: CommandError.failure("No live migration of s1 is under way.")) {
            try await endMigration(.delete, "", nil, "", try invocation(["s1"]), context(idle, transcript))
        }
    }
}
