internal import HTTP
internal import Model

extension Command {
    /// `apus task …`
    static let task = Command.group(
        "task", "Long operations: list, show, cancel.",
        [
            .client(
                "list", "List tasks that are under way.",
                options: [
                    OptionSpec(name: "all", help: "Also those that have ended."),
                    OptionSpec(name: "server", value: "SERVER", help: "Only of this server (name or id)."),
                ], listTasks),
            .client("show", "Show one task.", arguments: [.task]) { invocation, context in
                let answer = try await context.client.apus(.get, "/tasks/\(percentEncoded(invocation.arguments[0]))")
                let task = answer["task"] ?? answer
                context.show(task, taskFacts(task))
            },
            .client("cancel", "Ask a task to stop and to undo what it has done.", arguments: [.task]) {
                invocation, context in
                let id = invocation.arguments[0]
                let answer = try await context.client.apus(.post, "/tasks/\(percentEncoded(id))/cancel")
                context.show(answer, "Asked \(id) to cancel: apus task show \(id)")
            },
        ])
}

extension ArgumentSpec {
    fileprivate static let task = ArgumentSpec(name: "TASK", help: "The task's id.")
}

@Sendable private func listTasks(_ invocation: Invocation, _ context: ClientContext) async throws {
    var query: [(String, String)] = []
    if invocation.has("all") { query.append(("all", "true")) }
    if let server = invocation.value("server") {
        query.append(("instance", try await findServer(server, context.client)["id"]?.text ?? server))
    }
    let tasks = try await context.client.apus(.get, "/tasks", query: query)["tasks"]?.list ?? []
    var table = Table(["ID", "KIND", "STATUS", "STEP", "TRIES", "INSTANCE", "SINCE"], numeric: [4])
    for task in tasks {
        table.add([
            task["id"]?.text ?? "", task["kind"]?.text ?? "", task["status"]?.text ?? "", task["step"]?.text ?? "",
            task["attempts"]?.int.map(String.init) ?? "", task["instance_id"]?.text ?? "",
            task["created_at"]?.text ?? "",
        ])
    }
    context.show(.array(tasks), tasks.isEmpty ? "Nothing is under way." : table.text)
}

/// Every plain member of a task, and its last error as a sentence.
private func taskFacts(_ task: JSON) -> String {
    let order = [
        "id", "kind", "status", "step", "attempts", "instance_id", "owner", "waits_until", "deadline", "request_id",
        "created_at", "updated_at", "finished_at",
    ]
    var facts = order.compactMap { key -> (String, String)? in
        guard let value = task[key], value != .null else { return nil }
        return (key.replacing("_", with: " "), value.text ?? value.int.map(String.init) ?? "")
    }
    if let reason = task["last_error"]?["message"]?.text ?? task["error"]?["message"]?.text {
        facts.append(("last error", reason))
    }
    return Table.facts(facts)
}
