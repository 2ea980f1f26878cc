internal import HTTP
internal import Model

extension Command {
    /// `apus host …`
    static let host = Command.group(
        "host", "Hosts: list, show, drain, rebalance, enroll, revoke, rotate, confirm-dead.",
        [
            .client("list", "List the compute hosts, and what each has and has promised.", listHosts),
            .client(
                "show", "Show one host: what it has, who holds what of it, and the last claims and releases.",
                arguments: [.host],
                options: [OptionSpec(name: "events", value: "N", help: "How many claims and releases (20).")], showHost),
            .client(
                "drain", "Let a host have no new servers, and empty it.",
                details: """
                    Disables the host's compute service with a reason, as `openstack compute service set --disable` \
                    does, and moves its servers to other hosts: those that run or are paused go on meanwhile, those \
                    that are off are moved so. With --cold each is shut down, moved, and started again if it ran. \
                    Interrupted and begun again it goes on. What cannot be moved is listed with the reason, and the \
                    exit code is 1. With --keep-servers nothing is moved.
                    """,
                arguments: [.host],
                options: [
                    OptionSpec(name: "reason", value: "TEXT", help: "Why, for those who list services."),
                    OptionSpec(name: "cold", help: "Move every server while it is off."),
                    OptionSpec(name: "keep-servers", help: "Move nothing; the host only gets no new servers."),
                    OptionSpec(name: "parallel", value: "N", help: "How many at a time (2)."),
                    OptionSpec(name: "timeout", value: "SECONDS", help: "For one server; 3600 when absent."),
                ], drainHost),
            confirmDead,
            .client("undrain", "Let a host have new servers again.", arguments: [.host]) { invocation, context in
                let service = try await setService(["status": "enabled"], invocation.arguments[0], context.client)
                context.show(service, "\(invocation.arguments[0]) may have new servers again.")
            },
            .rebalance,
            .client(
                "enroll", "Make a one-time token with which a new host joins.",
                details: """
                    On the new host: apus-compute --join URL --token-file FILE, with the token in FILE. It is valid \
                    once, for 15 minutes.
                    """,
                arguments: [.host]
            ) { invocation, context in
                let name = invocation.arguments[0]
                let answer = try await context.client.apus(.post, "/hosts", body: ["host": ["name": .string(name)]])
                let host = answer["host"] ?? answer
                context.remark("A token for \(name), valid until \(host["expires_at"]?.text ?? "in 15 minutes"):")
                context.show(answer, host["token"]?.text ?? "")
            },
            .client("revoke", "End a host's right to speak to the control plane.", arguments: [.host]) {
                invocation, context in
                let name = invocation.arguments[0]
                let answer = try await context.client.apus(.post, "/hosts/\(percentEncoded(name))/revoke")
                context.show(answer, "\(name) is revoked. Its guests run on; nothing it sends is believed any more.")
            },
            .client("rotate", "Make a token with which a host gets new credentials.", arguments: [.host]) {
                invocation, context in
                let name = invocation.arguments[0]
                let answer = try await context.client.apus(.post, "/hosts/\(percentEncoded(name))/rotate")
                let token = answer["token"]?.text ?? ""
                context.remark(
                    "\(name) gets its new credentials by joining again with this token; the old ones then end:")
                context.show(answer, token)
            },
        ])
}

extension ArgumentSpec {
    fileprivate static let host = ArgumentSpec(name: "HOST", help: "The host's name.")
}

@Sendable private func listHosts(_ invocation: Invocation, _ context: ClientContext) async throws {
    let services =
        try await context.client.request(
            .get, .compute, "/os-services", query: [("binary", "nova-compute")])["services"]?.list ?? []
    let hypervisors =
        try await context.client.request(.get, .compute, "/os-hypervisors/detail")["hypervisors"]?.list ?? []
    let enrolled = try await context.client.apus(.get, "/hosts")["hosts"]?.list ?? []
    var table = Table(
        ["HOST", "STATE", "GUESTS", "VCPUS", "MEMORY MIB", "DISK GIB", "HYPERVISOR"], numeric: [2, 3, 4, 5])
    var rows: [JSON] = []
    let known = Set(hypervisors.compactMap { $0["service"]?["host"]?.text })
    for hypervisor in hypervisors {
        let name = hypervisor["service"]?["host"]?.text ?? hypervisor["hypervisor_hostname"]?.text ?? ""
        let service = services.first { $0["host"]?.text == name }
        table.add([
            name, state(service: service, hypervisor: hypervisor), hypervisor.count("running_vms"),
            hypervisor.used("vcpus_used", of: "vcpus"), hypervisor.used("memory_mb_used", of: "memory_mb"),
            hypervisor.used("local_gb_used", of: "local_gb"),
            "\(hypervisor["hypervisor_type"]?.text ?? "") \(version(hypervisor["hypervisor_version"]?.int))",
        ])
        let strays = enrolled.first { $0["name"]?.text == name }?["strays"] ?? .null
        rows.append(["hypervisor": hypervisor, "service": service ?? .null, "strays": strays])
    }
    for service in services where !known.contains(service["host"]?.text ?? "") {
        table.add([
            service["host"]?.text ?? "", state(service: service, hypervisor: nil), "", "", "", "", "no report yet",
        ])
        rows.append(["hypervisor": .null, "service": service, "strays": .null])
    }
    context.show(.array(rows), rows.isEmpty ? "No host has reported yet." : table.text)
    for row in rows {
        for line in strayLines(row["strays"] ?? .null) {
            context.remark("\(row["hypervisor"]?["service"]?["host"]?.text ?? ""): \(line)")
        }
    }
}

/// What a person should look at on a host, a sentence each.
func strayLines(_ strays: JSON) -> [String] {
    let kinds = [
        ("orphans", "domains of ours without a record, left alone"),
        ("unplaced", "guests that the database does not place there, left alone"),
        ("unknown", "instances placed there of which the host knows nothing"),
    ]
    return kinds.compactMap { key, meaning in
        guard let finding = strays[key], let count = finding["count"]?.int, count > 0 else { return nil }
        let names = finding["instances"]?.list?.compactMap(\.text) ?? []
        let more = count > names.count ? " …" : ""
        return "\(count) \(meaning): \(names.joined(separator: " "))\(more)"
    }
}

private func state(service: JSON?, hypervisor: JSON?) -> String {
    let state = service?["state"]?.text ?? hypervisor?["state"]?.text ?? "unknown"
    let status = service?["status"]?.text ?? hypervisor?["status"]?.text
    return status == "disabled" ? "\(state), disabled" : state
}

private func version(_ number: Int?) -> String {
    guard let number, number > 0 else { return "" }
    return "\(number / 1_000_000).\(number / 1_000 % 1_000).\(number % 1_000)"
}

extension JSON {
    fileprivate func count(_ key: String) -> String { self[key]?.int.map(String.init) ?? "" }

    /// `3/16`
    fileprivate func used(_ used: String, of total: String) -> String {
        guard let used = self[used]?.int, let total = self[total]?.int else { return "" }
        return "\(used)/\(total)"
    }
}
