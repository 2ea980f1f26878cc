internal import Database
internal import HTTP
internal import Model

/// The hypervisors: what each host has and has promised.
extension ComputeRoutes {
    mutating func addHypervisors() {
        let parts = parts
        add(.get, "os-hypervisors", rule: "os-hypervisors:list") { call in
            try await listHypervisors(call, parts, isDetailed: false)
        }
        add(.get, "os-hypervisors/detail", rule: "os-hypervisors:list-detail") { call in
            try await listHypervisors(call, parts, isDetailed: true)
        }
        add(.get, "os-hypervisors/statistics", rule: "os-hypervisors:statistics", versions: 1...87) { _ in
            statisticsAnswer(try await HypervisorView.all(parts))
        }
        add(.get, "os-hypervisors/{id}", rule: "os-hypervisors:show") { call in
            try call.requireKnownQuery(["with_servers"])
            let view = try await findHypervisor(call, parts)
            let servers = try await withServers(call) ? parts.database.instances.list(on: view.report.host) : nil
            return jsonAnswer(capacity: 2_048) { writer in
                writer.object("hypervisor") { view.writeDetail(call, servers: servers, to: &$0) }
            }
        }
        add(.get, "os-hypervisors/{id}/uptime", rule: "os-hypervisors:uptime", versions: 1...87) { call in
            let view = try await findHypervisor(call, parts)
            guard view.isUp else { throw APIError.badRequest("Compute host \(view.report.host) is not up.") }
            guard let uptime = view.uptime else {
                throw APIError(501, "The host \(view.report.host) does not report how long it has been up.")
            }
            return jsonAnswer { writer in
                writer.object("hypervisor") { writer in
                    view.writeBrief(call, to: &writer)
                    writer.member("uptime", uptime)
                }
            }
        }
        add(.get, "os-hypervisors/{id}/search", rule: "os-hypervisors:search", versions: 1...52) { call in
            let found = try await matching(call.parameter("id"), parts)
            return briefAnswer(found[...], next: nil, call)
        }
        add(.get, "os-hypervisors/{id}/servers", rule: "os-hypervisors:servers", versions: 1...52) { call in
            let found = try await matching(call.parameter("id"), parts)
            var servers: [HostName: [Instance]] = [:]
            for view in found {
                servers[view.report.host] = try await parts.database.instances.list(on: view.report.host)
            }
            return briefAnswer(found[...], servers: servers, next: nil, call)
        }
    }
}

private func withServers(_ call: ComputeCall) throws(APIError) -> Bool {
    guard call.isAtLeast(53), let text = call.query["with_servers"] else { return false }
    guard let flag = parseFlag(text) else {
        throw .badRequest("Invalid input for query parameter with_servers: true or false is wanted.")
    }
    return flag
}

private func listHypervisors(
    _ call: ComputeCall, _ parts: ComputeParts, isDetailed: Bool
) async throws -> HTTPResponse {
    try call.requireKnownQuery(["hypervisor_hostname_pattern", "limit", "marker", "with_servers"])
    var views = try await HypervisorView.all(parts)
    if call.isAtLeast(53), let pattern = call.query["hypervisor_hostname_pattern"] {
        guard call.query["limit"] == nil, call.query["marker"] == nil else {
            throw APIError.badRequest(
                "Paging over hypervisors with the hypervisor_hostname_pattern query parameter is not supported.")
        }
        views = try await matching(pattern, parts)
    }
    var servers: [HostName: [Instance]]?
    if try withServers(call) {
        servers = [:]
        for view in views { servers?[view.report.host] = try await parts.database.instances.list(on: view.report.host) }
    }
    var page = views[...]
    var next: String?
    if call.isAtLeast(33) {
        (page, next) = try call.page(of: views, maximum: parts.settings.maxLimit) { $0.id(call) }
    }
    guard isDetailed else { return briefAnswer(page, servers: servers, next: next, call) }
    return jsonAnswer(capacity: 64 + page.count * 1_536) { writer in
        writer.array("hypervisors") { writer in
            for view in page {
                let placed = servers.map { $0[view.report.host] ?? [] }
                writer.object { view.writeDetail(call, servers: placed, to: &$0) }
            }
        }
        if let next { call.writeNext("hypervisors_links", path: "os-hypervisors/detail", marker: next, to: &writer) }
    }
}

private func briefAnswer(
    _ views: ArraySlice<HypervisorView>, servers: [HostName: [Instance]]? = nil, next: String?, _ call: ComputeCall
) -> HTTPResponse {
    jsonAnswer(capacity: 64 + views.count * 192) { writer in
        writer.array("hypervisors") { writer in
            for view in views {
                writer.object { writer in
                    view.writeBrief(call, to: &writer)
                    HypervisorView.write(servers.map { $0[view.report.host] ?? [] }, call, to: &writer)
                }
            }
        }
        if let next { call.writeNext("hypervisors_links", path: "os-hypervisors", marker: next, to: &writer) }
    }
}

/// The hypervisors whose name contains `text`; 404 when there are none.
private func matching(_ text: String, _ parts: ComputeParts) async throws -> [HypervisorView] {
    let found = try await HypervisorView.all(parts).filter { $0.report.hypervisorHostname.contains(text) }
    guard !found.isEmpty else { throw APIError.notFound("No hypervisor matching '\(text)' could be found.") }
    return found
}

private func findHypervisor(_ call: ComputeCall, _ parts: ComputeParts) async throws -> HypervisorView {
    let id = call.parameter("id")
    guard !call.isAtLeast(53) || isUUID(id) else { throw APIError.badRequest("Invalid uuid \(id)") }
    guard let view = try await HypervisorView.all(parts).first(where: { $0.id(call) == id.lowercased() }) else {
        throw APIError.notFound("Hypervisor with ID '\(id)' could not be found.")
    }
    return view
}

private func statisticsAnswer(_ views: [HypervisorView]) -> HTTPResponse {
    let reports = views.filter { !$0.isDisabled }.map(\.report)
    let total = reports.reduce(Resources.zero) { $0 + $1.total }
    let used = reports.reduce(Resources.zero) { $0 + $1.used }
    let free = total - used
    return jsonAnswer { writer in
        writer.object("hypervisor_statistics") { writer in
            writer.member("count", reports.count)
            writer.member("current_workload", reports.reduce(0) { $0 + $1.workload })
            writer.member("disk_available_least", reports.reduce(0) { $0 + ($1.diskAvailableLeastGiB ?? 0) })
            writer.member("free_disk_gb", free.diskGiB)
            writer.member("free_ram_mb", free.memoryMiB)
            writer.member("local_gb", total.diskGiB)
            writer.member("local_gb_used", used.diskGiB)
            writer.member("memory_mb", total.memoryMiB)
            writer.member("memory_mb_used", used.memoryMiB)
            writer.member("running_vms", reports.reduce(0) { $0 + $1.runningInstances })
            writer.member("vcpus", total.vcpus)
            writer.member("vcpus_used", used.vcpus)
        }
    }
}
