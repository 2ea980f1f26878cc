internal import Crypto
internal import HTTP
internal import Model

extension Command {
    /// `apus server …`
    static let server = Command.group(
        "server", "Servers: list, show, create, delete, start, stop, pause, rescue, rebuild, shelve, console …",
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
            .client("ping", "Ask a server's guest agent whether it answers.", arguments: [.server], pingGuestAgent),
            .client(
                "reboot", "Reboot a server.", arguments: [.server],
                options: waiting + [OptionSpec(name: "hard", help: "Reset it instead of asking the guest.")]
            ) { invocation, context in
                let type: JSON = invocation.has("hard") ? "HARD" : "SOFT"
                try await act(["reboot": ["type": type]], until: ["ACTIVE"], invocation, context)
            },
            .client(
                "snapshot", "Copy a server's disk into a new image.",
                arguments: [.server, ArgumentSpec(name: "NAME", help: "The new image's name.")]
            ) { invocation, context in
                let name = invocation.arguments[1]
                let id = try await findServer(invocation.arguments[0], context.client)["id"]?.text ?? ""
                let answer = try await context.client.request(
                    .post, .compute, "/servers/\(percentEncoded(id))/action",
                    body: ["createImage": ["name": .string(name)]])
                context.show(answer, "The image \(name) is being made: apus image list")
            },
            .client(
                "rescue", "Boot a server from another disk, with its own one beside it.", arguments: [.server],
                options: waiting + [
                    OptionSpec(name: "image", value: "IMAGE", help: "What to boot; the server's own image when absent.")
                ]
            ) { invocation, context in
                var call: [String: JSON] = [:]
                if let image = invocation.value("image") {
                    call["rescue_image_ref"] = try await imageID(image, context)
                }
                try await act(["rescue": .object(call)], until: ["RESCUE"], invocation, context)
            },
            .client(
                "rebuild", "Make a server's disks afresh.", arguments: [.server],
                options: waiting + [
                    OptionSpec(
                        name: "image", value: "IMAGE", help: "What to make them from; the same as now when absent.")
                ]
            ) { invocation, context in
                let server = try await findServer(invocation.arguments[0], context.client)
                let image =
                    if let wanted = invocation.value("image") { try await imageID(wanted, context) } else {
                        server["image"]?["id"] ?? .null
                    }
                let done = status(of: server) == "SHUTOFF" ? "SHUTOFF" : "ACTIVE"
                try await act(["rebuild": ["imageRef": image]], until: [done], invocation, context)
            },
            .client(
                "resize", "Give a server another flavor; then `confirm` or `revert`.", arguments: [.server],
                options: waiting + [OptionSpec(name: "flavor", value: "FLAVOR", help: "Name or id of the new flavor.")]
            ) { invocation, context in
                guard let wanted = invocation.value("flavor") else { throw CommandError.usage("--flavor is missing.") }
                let flavor = try await findFlavor(wanted, context.client)["id"]?.text ?? wanted
                try await act(
                    ["resize": ["flavorRef": .string(flavor)]], until: ["VERIFY_RESIZE"], invocation, context)
            },
            .client(
                "migrate", "Move a server to another host while it is off; then `confirm` or `revert`.",
                arguments: [.server],
                options: waiting + [
                    OptionSpec(name: "host", value: "HOST", help: "Where to; the scheduler's choice when absent.")
                ]
            ) { invocation, context in
                let argument: JSON = invocation.value("host").map { ["host": .string($0)] } ?? .null
                try await act(
                    ["migrate": argument], until: ["VERIFY_RESIZE"], invocation, context, microversion: "2.56")
            },
            .client(
                "live-migrate", "Move a server to another host while it runs.", arguments: [.server],
                options: waiting + [
                    OptionSpec(name: "host", value: "HOST", help: "Where to; the scheduler's choice when absent."),
                    OptionSpec(
                        name: "block-migration", value: "auto|yes|no",
                        help: "Whether its disks go with it; auto: unless both hosts see them."),
                ], liveMigrate),
            .client("migration-abort", "End a live migration, with the server where it was.", arguments: [.server]) {
                invocation, context in
                try await endMigration(.delete, "", nil, "is broken off", invocation, context)
            },
            .client(
                "migration-force-complete", "Have a live migration end soon, if need be with the server halted.",
                arguments: [.server]
            ) { invocation, context in
                try await endMigration(
                    .post, "/action", ["force_complete": .null], "is to end soon", invocation, context)
            },
        ]
            + plain.map { action in
                .client(action.name, action.summary, arguments: [.server], options: waiting) { invocation, context in
                    try await act(.object([action.call: .null]), until: action.done, invocation, context)
                }
            })

    /// The actions without an argument: their name here and in the API, and the statuses of which one says that it is done.
    private static let plain: [(name: String, summary: String, call: String, done: Set<String>)] = [
        ("start", "Start a stopped server.", "os-start", ["ACTIVE"]),
        ("stop", "Shut a server down.", "os-stop", ["SHUTOFF"]),
        ("pause", "Halt a server's processors.", "pause", ["PAUSED"]),
        ("unpause", "Let a paused server go on.", "unpause", ["ACTIVE"]),
        ("suspend", "Save a server's memory to disk and turn it off.", "suspend", ["SUSPENDED"]),
        ("resume", "Let a suspended server go on.", "resume", ["ACTIVE"]),
        ("unrescue", "Boot a rescued server from its own disk again.", "unrescue", ["ACTIVE", "SHUTOFF"]),
        ("shelve", "Turn a server into an image and free its host.", "shelve", ["SHELVED", "SHELVED_OFFLOADED"]),
        ("unshelve", "Bring a shelved server back.", "unshelve", ["ACTIVE"]),
        ("restore", "Take the delete of a server back.", "restore", ["ACTIVE"]),
        ("confirm", "Keep what a resize or a migration has made.", "confirmResize", ["ACTIVE", "SHUTOFF"]),
        ("revert", "Go back to where a resize or a migration came from.", "revertResize", ["ACTIVE", "SHUTOFF"]),
        ("lock", "Keep a server from being changed.", "lock", []),
        ("unlock", "Let a locked server be changed again.", "unlock", []),
    ]

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
    if invocation.has("wait") { made = try await wait(id, until: ["ACTIVE"], invocation, context) }
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

@Sendable func printConsole(_ invocation: Invocation, _ context: ClientContext) async throws {
    let server = try await findServer(invocation.arguments[0], context.client)
    let id = server["id"]?.text ?? ""
    var call: [String: JSON] = [:]
    if let lines = try invocation.number("lines", in: 1...100_000) { call["length"] = .integer(Int64(lines)) }
    let answer = try await context.client.request(
        .post, .compute, "/servers/\(percentEncoded(id))/action", body: ["os-getConsoleOutput": .object(call)])
    let output = answer["output"]?.text ?? ""
    if context.wantsJSON {
        context.terminal.print(answer)
    } else {
        context.terminal.out(output.isEmpty || output.hasSuffix("\n") ? output : output + "\n")
        // A guest takes seconds to its first word; who asks before should not think that nothing works.
        guard output.isEmpty else { return }
        context.terminal.complain("\(server["name"]?.text ?? id) has said nothing on its console yet.")
    }
}

@Sendable private func pingGuestAgent(_ invocation: Invocation, _ context: ClientContext) async throws {
    let server = try await findServer(invocation.arguments[0], context.client)
    let id = server["id"]?.text ?? ""
    let answer = try await context.client.apus(.get, "/servers/\(percentEncoded(id))/guest-agent")
    let fact = try guestAgentFact(answer["guest_agent"] ?? .null, of: server["name"]?.text ?? id)
    context.show(answer, fact)
}

/// What a person reads of a guest agent that answers. Throws when it does not, so that scripts can wait for one.
func guestAgentFact(_ agent: JSON, of name: String) throws(CommandError) -> String {
    guard agent["answers"] == true else {
        throw .failure(
            "The guest agent of \(name) does not answer. Does one run in the guest, and does the image say "
                + "hw_qemu_guest_agent=yes?")
    }
    guard case .number(let time)? = agent["milliseconds"] else { return "The guest agent of \(name) answers." }
    return "The guest agent of \(name) answers in \((time * 10).rounded() / 10) ms."
}

/// `apus server live-migrate SERVER`
@Sendable func liveMigrate(_ invocation: Invocation, _ context: ClientContext) async throws {
    let block: JSON
    switch invocation.value("block-migration") ?? "auto" {
    case "auto": block = "auto"
    case "yes": block = true
    case "no": block = false
    default: throw CommandError.usage("--block-migration is auto, yes or no.")
    }
    let server = try await findServer(invocation.arguments[0], context.client)
    let (id, before) = (server["id"]?.text ?? "", server["OS-EXT-SRV-ATTR:host"]?.text)
    let host: JSON = invocation.value("host").map { .string($0) } ?? .null
    try await act(
        ["os-migrateLive": ["host": host, "block_migration": block]], until: ["ACTIVE", "PAUSED"], invocation, context,
        microversion: "2.68"
    ) { done in
        guard let before, done["OS-EXT-SRV-ATTR:host"]?.text == before else { return }
        throw CommandError.failure(
            "It stays on \(before): \(try await lastFailure(of: id, context.client))")
    }
}

/// Says of the live migration of a server that is under way how it is to end.
func endMigration(
    _ method: HTTPMethod, _ suffix: String, _ body: JSON?, _ said: String, _ invocation: Invocation,
    _ context: ClientContext
) async throws {
    let id = try await findServer(invocation.arguments[0], context.client)["id"]?.text ?? ""
    let path = "/servers/\(percentEncoded(id))/migrations"
    let list = try await context.client.request(.get, .compute, path, microversion: "2.65")["migrations"]?.list ?? []
    guard let number = list.first?["id"]?.int else {
        throw CommandError.failure("No live migration of \(invocation.arguments[0]) is under way.")
    }
    let answer = try await context.client.request(
        method, .compute, path + "/\(number)" + suffix, body: body, microversion: "2.65")
    context.show(answer, "Migration \(number) of \(invocation.arguments[0]) \(said).")
}

private func imageID(_ wanted: String, _ context: ClientContext) async throws -> JSON {
    .string(try await findImage(wanted, context.client)["id"]?.text ?? wanted)
}

private func act(
    _ body: JSON, until done: Set<String>, _ invocation: Invocation, _ context: ClientContext,
    microversion: String = CloudClient.microversion, check: (JSON) async throws -> Void = { _ in }
) async throws {
    let id = try await findServer(invocation.arguments[0], context.client)["id"]?.text ?? ""
    let answer = try await context.client.request(
        .post, .compute, "/servers/\(percentEncoded(id))/action", body: body, microversion: microversion)
    if let password = (answer["adminPass"] ?? answer["server"]?["adminPass"])?.text {
        // Only this answer carries it; nobody can ask for it again.
        context.remark("The administrator's password is \(password)")
    }
    let server =
        invocation.has("wait")
        ? try await wait(id, until: done, invocation, context) : try await showServer(id, context.client)
    if invocation.has("wait") { try await check(server) }
    context.show(server, "\(server["name"]?.text ?? id) is \(describedStatus(of: server)).")
}

/// Waits until nothing is under way and the status is one of `wanted`, or any where that is empty; ERROR is told with its
/// reason.
private func wait(
    _ id: String, until wanted: Set<String>, _ invocation: Invocation, _ context: ClientContext
) async throws -> JSON {
    try await poll(for: try timeout(invocation), what: "Waiting for \(wanted.sorted().joined(separator: " or "))") {
        let server = try await showServer(id, context.client)
        let isIdle = server["OS-EXT-STS:task_state"]?.text == nil
        if status(of: server) == "ERROR", isIdle {
            let reason = server["fault"]?["message"]?.text ?? "no reason was recorded"
            throw CommandError.failure("Server \(server["name"]?.text ?? id) (\(id)) is in ERROR: \(reason)")
        }
        guard isIdle, wanted.isEmpty || wanted.contains(status(of: server)) else { return nil }
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
