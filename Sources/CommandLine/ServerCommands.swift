internal import Crypto
internal import HTTP
internal import Model

extension Command {
    /// `apus server …`
    static let server = Command.group(
        "server", "Servers: list, show, create, delete, start, stop, reboot, console.",
        [
            .client(
                "list", "List servers.",
                options: [
                    OptionSpec(name: "all-projects", help: "Of every project (administrators)."),
                    OptionSpec(name: "name", value: "PATTERN", help: "Only names that match."),
                    OptionSpec(
                        name: "status", value: "STATUS", help: "Only with this status, such as ACTIVE or ERROR."),
                ], listServers),
            .client("show", "Show one server.", arguments: [.server]) { invocation, context in
                let server = try await findServer(invocation.arguments[0], context.client)
                context.show(server, serverFacts(server))
            },
            .client(
                "create", "Create a server.",
                arguments: [ArgumentSpec(name: "NAME", help: "The new server's name.")], options: createOptions,
                createServer),
            .client(
                "delete", "Delete servers.",
                arguments: [ArgumentSpec(name: "SERVER", help: "Name or id.", isRepeated: true)], options: waiting
            ) { invocation, context in
                try await deleteServers(invocation, context)
            },
            .client(
                "console", "Print the end of a server's serial console.", arguments: [.server],
                options: [OptionSpec(name: "lines", value: "N", help: "Only the last N lines.")], printConsole),
            power("start", "Start a stopped server.", body: ["os-start": .null], done: "ACTIVE"),
            power("stop", "Shut a server down.", body: ["os-stop": .null], done: "SHUTOFF"),
            .client(
                "reboot", "Reboot a server.", arguments: [.server],
                options: waiting + [OptionSpec(name: "hard", help: "Reset it instead of asking the guest.")]
            ) { invocation, context in
                let type: JSON = invocation.has("hard") ? "HARD" : "SOFT"
                try await act(["reboot": ["type": type]], until: "ACTIVE", invocation, context)
            },
        ])

    private static func power(_ name: String, _ summary: String, body: JSON, done: String) -> Command {
        .client(name, summary, arguments: [.server], options: waiting) { invocation, context in
            try await act(body, until: done, invocation, context)
        }
    }

    private static let waiting = [
        OptionSpec(name: "wait", help: "Return when it is done."),
        OptionSpec(name: "timeout", value: "SECONDS", help: "How long --wait waits; 300 when absent."),
    ]

    private static let createOptions =
        [
            OptionSpec(name: "image", value: "IMAGE", help: "Name or id of the image to boot from."),
            OptionSpec(name: "flavor", value: "FLAVOR", help: "Name or id of the flavor."),
            OptionSpec(name: "key-name", value: "KEY", help: "The keypair to put into the server."),
            OptionSpec(
                name: "network", value: "auto|none", help: "One NIC on the default network, or none; auto when absent."),
            OptionSpec(name: "user-data", value: "FILE", help: "A file for the server's config drive."),
            OptionSpec(name: "property", value: "KEY=VALUE", help: "Metadata; may be repeated.", isRepeated: true),
            OptionSpec(name: "availability-zone", value: "ZONE", help: "Where to put it."),
        ] + waiting
}

extension ArgumentSpec {
    fileprivate static let server = ArgumentSpec(name: "SERVER", help: "Name or id.")
}

@Sendable private func listServers(_ invocation: Invocation, _ context: ClientContext) async throws {
    var query: [(String, String)] = []
    if invocation.has("all-projects") { query.append(("all_tenants", "1")) }
    if let name = invocation.value("name") { query.append(("name", name)) }
    if let status = invocation.value("status") { query.append(("status", status)) }
    let servers = try await allServers(context.client, query: query)
    var table = Table(["ID", "NAME", "STATUS", "ADDRESSES", "FLAVOR", "HOST"])
    let names = context.wantsJSON ? [:] : try await flavorNames(context.client)
    for server in servers {
        let flavor = server["flavor"]?["id"]?.text ?? ""
        table.add([
            server["id"]?.text ?? "", server["name"]?.text ?? "", status(of: server), addresses(of: server),
            names[flavor] ?? flavor, server["OS-EXT-SRV-ATTR:host"]?.text ?? "",
        ])
    }
    context.show(.array(servers), servers.isEmpty ? "There are no servers." : table.text)
}

@Sendable private func createServer(_ invocation: Invocation, _ context: ClientContext) async throws {
    guard let image = invocation.value("image") else { throw CommandError.usage("--image is missing.") }
    guard let flavor = invocation.value("flavor") else { throw CommandError.usage("--flavor is missing.") }
    var server: [String: JSON] = [
        "name": .string(invocation.arguments[0]),
        "imageRef": .string(try await findImage(image, context.client)["id"]?.text ?? image),
        "flavorRef": .string(try await findFlavor(flavor, context.client)["id"]?.text ?? flavor),
        "networks": .string(invocation.value("network") ?? "auto"),
    ]
    if let key = invocation.value("key-name") { server["key_name"] = .string(key) }
    if let zone = invocation.value("availability-zone") { server["availability_zone"] = .string(zone) }
    let metadata = try properties(invocation.all("property"))
    if !metadata.isEmpty { server["metadata"] = .object(metadata.mapValues { .string($0) }) }
    if let file = invocation.value("user-data") {
        guard let text = try readTextFile(file) else { throw CommandError.failure("There is no file \(file).") }
        server["user_data"] = .string(Base64.encode(Array(text.utf8)))
    }
    let answer = try await context.client.request(
        .post, .compute, "/servers", body: ["server": .object(server)])
    guard let id = answer["server"]?["id"]?.text else {
        throw CommandError.failure("The answer to the creation holds no server.")
    }
    var made = try await showServer(id, context.client)
    if invocation.has("wait") { made = try await wait(id, until: "ACTIVE", invocation, context) }
    // Only this answer carries the password; nobody can ask for it again.
    if case .object(var members) = made, let password = answer["server"]?["adminPass"] {
        members["adminPass"] = password
        made = .object(members)
    }
    context.show(made, serverFacts(made))
}

private func deleteServers(_ invocation: Invocation, _ context: ClientContext) async throws {
    var ids: [String] = []
    for name in invocation.arguments {
        let server = try await findServer(name, context.client)
        guard let id = server["id"]?.text else { continue }
        _ = try await context.client.request(.delete, .compute, "/servers/\(percentEncoded(id))")
        ids.append(id)
        context.remark("Deleting \(name) (\(id)).")
    }
    if invocation.has("wait") {
        for id in ids {
            _ = try await poll(for: try timeout(invocation), what: "Deleting \(id)") { () -> Bool? in
                guard let left = try await found({ try await showServer(id, context.client) }) else { return true }
                if status(of: left) == "ERROR", left["OS-EXT-STS:task_state"]?.text == nil {
                    throw CommandError.failure(
                        "Deleting \(id) failed: \(left["fault"]?["message"]?.text ?? "no reason").")
                }
                return nil
            }
        }
    }
    if context.wantsJSON { context.terminal.print(.array(ids.map { .string($0) })) }
}

@Sendable private func printConsole(_ invocation: Invocation, _ context: ClientContext) async throws {
    let id = try await findServer(invocation.arguments[0], context.client)["id"]?.text ?? ""
    var call: [String: JSON] = [:]
    if let lines = try invocation.number("lines", in: 1...100_000) { call["length"] = .integer(Int64(lines)) }
    let answer = try await context.client.request(
        .post, .compute, "/servers/\(percentEncoded(id))/action", body: ["os-getConsoleOutput": .object(call)])
    let output = answer["output"]?.text ?? ""
    if context.wantsJSON {
        context.terminal.print(answer)
    } else {
        context.terminal.out(output.isEmpty || output.hasSuffix("\n") ? output : output + "\n")
    }
}

private func act(_ body: JSON, until status: String, _ invocation: Invocation, _ context: ClientContext) async throws {
    let id = try await findServer(invocation.arguments[0], context.client)["id"]?.text ?? ""
    _ = try await context.client.request(.post, .compute, "/servers/\(percentEncoded(id))/action", body: body)
    let server =
        invocation.has("wait")
        ? try await wait(id, until: status, invocation, context) : try await showServer(id, context.client)
    context.show(server, "\(server["name"]?.text ?? id) is \(describedStatus(of: server)).")
}

/// Waits until nothing is under way and the status is `wanted`; ERROR is told with its reason.
private func wait(
    _ id: String, until wanted: String, _ invocation: Invocation, _ context: ClientContext
) async throws -> JSON {
    try await poll(for: try timeout(invocation), what: "Waiting for \(wanted)") {
        let server = try await showServer(id, context.client)
        let isIdle = server["OS-EXT-STS:task_state"]?.text == nil
        if status(of: server) == "ERROR", isIdle {
            let reason = server["fault"]?["message"]?.text ?? "no reason was recorded"
            throw CommandError.failure("Server \(server["name"]?.text ?? id) (\(id)) is in ERROR: \(reason)")
        }
        guard isIdle, status(of: server) == wanted else { return nil }
        return server
    }
}

private func timeout(_ invocation: Invocation) throws(CommandError) -> Duration {
    .seconds(try invocation.number("timeout", in: 1...86_400) ?? 300)
}

private func properties(_ pairs: [String]) throws(CommandError) -> [String: String] {
    var found: [String: String] = [:]
    for pair in pairs {
        let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2, !parts[0].isEmpty else { throw .usage("--property takes KEY=VALUE, not '\(pair)'.") }
        found[String(parts[0])] = String(parts[1])
    }
    return found
}
