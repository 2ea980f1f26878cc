internal import HTTP
internal import Model

extension Command {
    /// `apus task …`
    static let task = Command.group(
        "task", "Long operations: list, show, cancel, retry.",
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
            .client(
                "cancel", "Ask a task to stop and to undo what it has done.",
                details: """
                    What removes a guest is not cancelled, nor a command that its host has begun, except for copies of \
                    disks, and rescues and rebuilds that still fetch their image. A host may be too far on: then the \
                    task goes on to its end.
                    """,
                arguments: [.task]
            ) { invocation, context in
                let id = invocation.arguments[0]
                let answer = try await context.client.apus(.post, "/tasks/\(percentEncoded(id))/cancel")
                context.show(answer, "Asked \(id) to cancel: apus task show \(id)")
            },
            .client("retry", "Give a task that waits, or has failed, another try.", arguments: [.task]) {
                invocation, context in
                let id = invocation.arguments[0]
                let answer = try await context.client.apus(.post, "/tasks/\(percentEncoded(id))/retry")
                let made = answer["task"]?["id"]?.text ?? id
                context.show(answer, "It is tried again: apus task show \(made)")
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
    let tasks = try await allTasks(context.client, query: query)
    var table = Table(
        ["ID", "KIND", "STATUS", "STEP", "TRIES", "AGE", "INSTANCE", "OWNER", "LAST ERROR"], numeric: [4, 5])
    for task in tasks {
        table.add([
            task["id"]?.text ?? "", task["kind"]?.text ?? "", task["status"]?.text ?? "", task["step"]?.text ?? "",
            task["attempts"]?.int.map(String.init) ?? "", age(task["age_seconds"]?.int ?? 0),
            task["instance_id"]?.text ?? "", task["owner"]?.text ?? "", task["last_error"]?["message"]?.text ?? "",
        ])
    }
    context.show(.array(tasks), tasks.isEmpty ? "Nothing is under way." : table.text)
}

/// `45s`, `12m`, `3h`, `2d`: the largest unit of which there is one.
private func age(_ seconds: Int) -> String {
    for (unit, length) in [("d", 86_400), ("h", 3_600), ("m", 60)] where seconds >= length {
        return "\(seconds / length)\(unit)"
    }
    return "\(seconds)s"
}

/// Every plain member of a task, and its last error as a sentence.
private func taskFacts(_ task: JSON) -> String {
    let order = [
        "id", "kind", "status", "step", "attempts", "instance_id", "parent_id", "owner", "waits_until", "deadline",
        "request_id",
        "created_at", "updated_at", "finished_at",
    ]
    var facts = order.compactMap { key -> (String, String)? in
        guard let value = task[key], value != .null else { return nil }
        return (key.replacing("_", with: " "), value.text ?? value.int.map(String.init) ?? "")
    }
    if let reason = task["last_error"]?["message"]?.text ?? task["error"]?["message"]?.text {
        facts.append(("last error", reason))
    }
    for child in task["children"]?.list ?? [] {
        let parts = ["kind", "status", "id"].map { child[$0]?.text ?? "" }
        facts.append(("child", parts.joined(separator: " ")))
    }
    return Table.facts(facts)
}
