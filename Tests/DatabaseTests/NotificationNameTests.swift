import Database
import Model
import Testing

@Suite("Under which names requests are told")
struct NotificationNameTests {
    /// For each action what is told of its acceptance, its end and its failure; nothing for those that nobody is told of.
    private static let names: [InstanceActionKind: [String]] = [
        .create: phases("create"), .delete: phases("delete"), .start: phases("power_on"), .stop: phases("power_off"),
        .reboot: phases("reboot"), .pause: phases("pause"), .unpause: phases("unpause"),
        .suspend: phases("suspend"), .resume: phases("resume"), .rescue: phases("rescue"),
        .unrescue: phases("unrescue"), .rebuild: phases("rebuild"), .shelve: phases("shelve"),
        .shelveOffload: phases("shelve_offload"), .unshelve: phases("unshelve"), .lock: phases("lock"),
        .unlock: phases("unlock"), .restore: phases("restore"), .createImage: phases("snapshot"),
        .createBackup: phases("snapshot"), .resize: phases("resize"), .migrate: phases("resize"),
        .confirmResize: phases("resize_confirm"), .revertResize: phases("resize_revert"),
        .evacuate: phases("evacuate"), .attachInterface: phases("interface_attach"),
        .detachInterface: phases("interface_detach"), .triggerCrashDump: phases("trigger_crash_dump"),
        .liveMigration: [
            "instance.live_migration_pre.start", "instance.live_migration_post.end",
            "instance.live_migration_rollback.end",
        ],
        .abortLiveMigration: phases("live_migration_abort"),
        .forceLiveMigration: phases("live_migration_force_complete"),
        .changePassword: [], .resetState: [],
    ]

    private static func phases(_ name: String) -> [String] {
        ["start", "end", "error"].map { "instance.\(name).\($0)" }
    }

    @Test(
        "Every action is told under its name when it is accepted, has ended and has failed",
        arguments: InstanceActionKind.allCases)
    func names(kind: InstanceActionKind) async throws {
        let expected = try #require(Self.names[kind], "\(kind) has no line in the table")
        let database = try await makeDatabase()
        try await database.notifications.setSinks(["s"])
        for (id, failed) in [("good", false), ("bad", true)] {
            var action = makeAction(id, request: "req-\(id)")
            action.kind = kind
            _ = try await database.instances.create([plainInstance(id)], actions: [action], tasks: [])
            let event = InstanceEvent(
                name: "e", host: HostName("a"), startedAt: at(1), finishedAt: at(2),
                result: failed ? "Error" : "Success", details: failed ? "no" : nil)
            _ = try await database.instances.update(
                InstanceID(id), now: at(3),
                finishing: ActionEnd(requestID: RequestID("req-\(id)"), at: at(3), failed: failed, event: event)
            ) { _ in }
        }
        let told = try await database.notifications.waiting(for: "s", limit: 10).map { waiting in
            let body = try JSON(parsing: Array(waiting.body.utf8))
            let data = body["payload"]?["nova_object.data"]
            #expect(data?["action_initiator_user"] == "u" && data?["action_initiator_project"] == "p")
            return "\(waiting.subject) \(body["event_type"]?.text ?? "")"
        }
        let wanted =
            expected.isEmpty
            ? [] : ["good \(expected[0])", "good \(expected[1])", "bad \(expected[0])", "bad \(expected[2])"]
        #expect(told == wanted)
        await database.close()
    }
}
