internal import HTTP
internal import Model

extension Command {
    /// `apus host confirm-dead NAME --evidence TEXT`
    static let confirmDead = Command.client(
        "confirm-dead", "Record that a host is dead, so that its servers can be evacuated.",
        details: """
            Say so only when you know that no guest of the host runs any more, and how you know it: its power is off, it \
            is cut off from its disks and networks. That it does not answer proves nothing: its guests may run on, and \
            would then run twice. What you say is in the host's record (`apus host show`) and in the log. It \
            counts until the host is heard of again; refused while its agent is heard of. Nothing is evacuated by it: \
            `openstack server evacuate` does that.
            """,
        arguments: [ArgumentSpec(name: "HOST", help: "The host's name.")],
        options: [OptionSpec(name: "evidence", value: "TEXT", help: "How you know that it is dead.")],
        confirmDeadHost)
}

/// `apus host confirm-dead NAME`
@Sendable func confirmDeadHost(_ invocation: Invocation, _ context: ClientContext) async throws {
    let name = invocation.arguments[0]
    guard let evidence = invocation.value("evidence"), !evidence.isEmpty else {
        throw CommandError.usage("--evidence TEXT is wanted: how you know that \(name) is dead.")
    }
    let answer = try await context.client.apus(
        .post, "/hosts/\(percentEncoded(name))/confirm-dead",
        body: ["confirm_dead": ["evidence": .string(evidence)]])
    context.show(answer, "\(name) is dead by your word: its servers can be evacuated.")
}
