internal import HTTP
internal import Model

/// `apus host show NAME`
@Sendable func showHost(_ invocation: Invocation, _ context: ClientContext) async throws {
    let name = invocation.arguments[0]
    let answer = try await context.client.apus(
        .get, "/hosts/\(percentEncoded(name))", query: [("events", invocation.value("events") ?? "20")])
    let host = answer["host"] ?? answer
    let servers = try await serverNames(on: name, context.client)
    context.show(host, ([hostFacts(host)] + claimTables(host, servers)).joined(separator: "\n\n"))
}

/// `apus host drain NAME`
@Sendable func drainHost(_ invocation: Invocation, _ context: ClientContext) async throws {
    let name = invocation.arguments[0]
    let reason = invocation.value("reason") ?? "drained"
    let service = try await setService(
        ["status": "disabled", "disabled_reason": .string(reason)], name, context.client)
    guard invocation.has("keep-servers") else { return try await emptyHost(name, service, invocation, context) }
    let count = try await serverNames(on: name, context.client).count
    let left =
        switch count {
        case 0: "It has no servers."
        case 1: "One server is on it and stays there."
        default: "\(count) servers are on it and stay there."
        }
    context.show(service, "\(name) gets no new servers. \(left) Undo: apus host undrain \(name)")
}

/// Moves the servers of a host away.
private func emptyHost(
    _ name: String, _ service: JSON, _ invocation: Invocation, _ context: ClientContext
) async throws {
    let drain = HostDrain(
        host: name, parallel: try invocation.number("parallel", in: 1...64) ?? 2, isCold: invocation.has("cold"),
        timeout: .seconds(try invocation.number("timeout", in: 1...604_800) ?? 3_600), client: context.client,
        remark: { context.remark($0) })
    let outcomes = try await drain.run()
    let left = outcomes.filter { $0.reason != nil }
    var table = Table(["SERVER", "NAME", "WHY IT STAYS"])
    for outcome in left { table.add([outcome.server, outcome.name, outcome.reason ?? ""]) }
    let moved = outcomes.count - left.count
    context.show(
        ["service": service, "servers": .array(outcomes.map(\.json))],
        left.isEmpty
            ? "\(name) is empty: \(moved) server\(moved == 1 ? "" : "s") moved. Undo: apus host undrain \(name)"
            : table.text)
    guard left.isEmpty else {
        throw CommandError.failure("\(left.count) of \(outcomes.count) servers stay on \(name).")
    }
}

/// Changes a host's compute service, which is named by its UUID, and gives what it is then.
func setService(_ change: JSON, _ host: String, _ client: CloudClient) async throws -> JSON {
    let version = "2.53"
    let found =
        try await client.request(
            .get, .compute, "/os-services", query: [("host", host), ("binary", "nova-compute")], microversion: version)[
            "services"]?.list ?? []
    guard let id = found.first?["id"]?.text else { throw CommandError.failure("No compute host is called \(host).") }
    let answer = try await client.request(.put, .compute, "/os-services/\(id)", body: change, microversion: version)
    return answer["service"] ?? answer
}

private func serverNames(on host: String, _ client: CloudClient) async throws -> [String: String] {
    let servers =
        try await client.request(
            .get, .compute, "/servers", query: [("host", host), ("all_tenants", "true")])["servers"]?.list ?? []
    return Dictionary(
        servers.compactMap { server in
            server["id"]?.text.map { ($0, server["name"]?.text ?? "") }
        }, uniquingKeysWith: { $1 })
}

func hostFacts(_ host: JSON) -> String {
    let (report, now) = (host["report"] ?? .null, host["now"] ?? .null)
    // What the host itself says is newer than its last report.
    func amounts(_ name: String) -> JSON { now[name] ?? report[name] ?? .null }
    var facts: [(String, String)] = [("name", host["name"]?.text ?? "")]
    if let uuid = report["uuid"]?.text { facts.append(("uuid", uuid)) }
    if let service = host["service"] {
        var state = service["is_disabled"]?.boolean == true ? "disabled" : "enabled"
        if let reason = service["disabled_reason"]?.text { state += " (\(reason))" }
        if service["is_forced_down"]?.boolean == true { state += ", declared down" }
        if service["dead_at"]?.text != nil { state += ", dead: \(service["dead_evidence"]?.text ?? "")" }
        facts.append(("service", state))
        facts.append(("last heard of", service["last_seen_at"]?.text ?? "never"))
    }
    let ratios = report["allocation_ratios"] ?? .null
    for (member, title) in [("vcpus", "vCPUs"), ("memory_mib", "memory MiB"), ("disk_gib", "disk GiB")] {
        guard let used = amounts("used")[member]?.int, let total = amounts("total")[member]?.int else { continue }
        var text = "\(used) of \(total) used"
        if let reserved = amounts("reserved")[member]?.int, reserved > 0 { text += ", \(reserved) reserved" }
        if let ratio = ratios[member]?.double, ratio != 1 { text += ", ratio \(ratio)" }
        facts.append((title, text))
    }
    if let kind = report["shared_storage"]?.text { facts.append(("storage", "shared (\(kind))")) }
    if let least = report["disk_available_least_gib"]?.int { facts.append(("disk left GiB", String(least))) }
    if let failed = report["failed_builds"]?.int, failed > 0 { facts.append(("failed builds", String(failed))) }
    if let updated = report["updated_at"]?.text { facts.append(("record of", updated)) }
    let traits = report["traits"]?.list?.compactMap(\.text) ?? []
    if !traits.isEmpty { facts.append(("traits", traits.joined(separator: " "))) }
    for metric in report["metrics"]?.list ?? [] {
        facts.append((metric["name"]?.text ?? "", metric["value"]?.double.map { "\($0)" } ?? ""))
    }
    return Table.facts(facts)
}

/// Who holds what, and the newest claims and releases. `servers` names the instances that have a name.
func claimTables(_ host: JSON, _ servers: [String: String]) -> [String] {
    if let error = host["claims_error"]?.text { return ["The host does not tell who holds what of it: \(error)"] }
    func row(_ resources: JSON?) -> [String] {
        ["vcpus", "memory_mib", "disk_gib"].map { resources?[$0]?.int.map(String.init) ?? "" }
    }
    var holders = Table(
        ["INSTANCE", "SERVER", "VCPUS", "MEMORY MIB", "DISK GIB", "SINCE", "ALSO"], numeric: [2, 3, 4])
    for claim in host["claims"]?.list ?? [] {
        let id = claim["instance_id"]?.text ?? ""
        holders.add(
            [id, servers[id] ?? ""] + row(claim["resources"])
                + [claim["since"]?.text ?? "", claim["remark"]?.text ?? ""])
    }
    var events = Table(["AT", "CHANGE", "INSTANCE", "VCPUS", "MEMORY MIB", "DISK GIB"], numeric: [3, 4, 5])
    for event in host["events"]?.list ?? [] {
        events.add(
            [event["at"]?.text ?? "", event["change"]?.text ?? "", event["instance_id"]?.text ?? ""]
                + row(event["resources"]))
    }
    let first = holders.rows.isEmpty ? "Nobody holds anything of it." : holders.text
    return events.rows.isEmpty ? [first] : [first, events.text]
}
