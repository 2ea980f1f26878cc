internal import Database
internal import HTTP
internal import Model

/// What a list of servers is asked for: the query string as a question to the store.
struct ServerListQuery {
    private(set) var query = InstanceQuery()
    let limit: Int
    /// Nothing can match: an empty list without asking.
    private(set) var isEmpty = false

    private var predicates: [@Sendable (Instance) -> Bool] = []
    private let call: ComputeCall

    /// Throws 400 for what cannot be read, 403 for what only administrators may ask.
    init(_ call: ComputeCall, settings: APISettings) throws(APIError) {
        self.call = call
        limit = try call.limit(maximum: settings.maxLimit)
        query.limit = limit
        if let marker = call.query["marker"], !marker.isEmpty {
            guard isUUID(marker) else { throw .badRequest("marker [\(marker)] not found") }
            query.marker = InstanceID(marker.lowercased())
        }
        try call.requireKnownQuery(Self.names)
        try readScope()
        try readTimes()
        try readStatus()
        try readFilters()
        try readSort()
        let all = predicates
        if !all.isEmpty { query.matches = { instance in all.allSatisfy { $0(instance) } } }
    }

    private var mayUseAllFilters: Bool { call.allows("servers:allow_all_filters") }

    private mutating func readScope() throws(APIError) {
        let text = call.query["all_tenants"]
        guard let everybody = text.map({ $0.isEmpty ? true : parseFlag($0) }) ?? false else {
            throw .badRequest("Invalid input for query parameter all_tenants: true or false is wanted.")
        }
        guard everybody else {
            query.projectID = call.caller.projectID
            return
        }
        try call.require("servers:index:get_all_tenants")
        if let project = call.query["project_id"] ?? call.query["tenant_id"] { query.projectID = ProjectID(project) }
    }

    /// What can be asked for, whether it counts for the caller or not.
    private static let names: Set<String> = [
        "accessIPv4", "accessIPv6", "access_ip_v4", "access_ip_v6", "all_tenants", "auto_disk_config",
        "availability_zone", "cell_name", "changes-before", "changes-since", "config_drive", "created_at", "deleted",
        "description", "disable_terminate", "display_description", "display_name", "ephemeral_gb", "flavor", "host",
        "hostname", "image", "image_ref", "instance_type_id", "ip", "ip6", "kernel_id", "key_name", "launch_index",
        "launched_at", "limit", "locked", "locked_by", "marker", "memory_mb", "name", "node", "not-tags",
        "not-tags-any", "power_state", "progress", "project_id", "ramdisk_id", "reservation_id", "root_device_name",
        "root_gb", "sort_dir", "sort_key", "status", "tags", "tags-any", "task_state", "tenant_id", "terminated_at",
        "updated_at", "user_id", "uuid", "vcpus", "vm_mode", "vm_state",
    ]

    private mutating func readTimes() throws(APIError) {
        let times = try ChangeTimes(call)
        (query.changedSince, query.changedBefore) = (times.since, times.before)
        if mayUseAllFilters, let text = call.query["deleted"] {
            guard let deleted = parseFlag(text) else {
                throw .badRequest("Invalid input for query parameter deleted: true or false is wanted.")
            }
            query.deleted = deleted ? .only : .excluded
        } else if query.changedSince != nil {
            // Who asks what has changed wants to hear of the deleted ones, too.
            query.deleted = .included
        }
    }

    private mutating func readStatus() throws(APIError) {
        let texts = call.query.all("status").filter { !$0.isEmpty }
        guard !texts.isEmpty else { return }
        var wanted: Set<ServerStatus> = []
        for text in texts {
            guard let status = ServerStatus(rawValue: text.uppercased()) else {
                guard !call.isAtLeast(38) else { throw .badRequest("Invalid status value") }
                continue
            }
            wanted.insert(status)
        }
        guard !wanted.isEmpty else {
            isEmpty = true
            return
        }
        if wanted.contains(.deleted) {
            guard call.caller.isAdmin else { throw .forbidden("Only administrators may list deleted servers.") }
            query.deleted = wanted.count == 1 ? .only : .included
        }
        let taskStates: [TaskState?] = [nil] + TaskState.allCases
        query.vmStates = Set(
            VMState.allCases.filter { vmState in
                taskStates.contains { wanted.contains(ServerStatus(vmState, $0)) }
            })
        predicates.append { [wanted] in wanted.contains($0.status) }
    }

    private mutating func readFilters() throws(APIError) {
        if let image = call.query["image"] { query.imageID = ImageID(String(image.split(separator: "/").last ?? "")) }
        if let flavor = call.query["flavor"] {
            query.flavorID = FlavorID(String(flavor.split(separator: "/").last ?? ""))
        }
        query.reservationID = call.query["reservation_id"]
        try addPattern("name") { [$0.name] }
        try addPattern("ip") { $0.interfaces.compactMap(\.ipv4Address) }
        // No server has an address of version 6 yet, and a pattern is checked all the same.
        if mayUseAllFilters || call.isAtLeast(5) { try addPattern("ip6") { _ in [] } }
        if call.isAtLeast(26) { addTags() }
        if call.isAtLeast(73), let text = call.query["locked"] {
            guard let isLocked = parseFlag(text) else {
                throw .badRequest("Invalid input for query parameter locked: true or false is wanted.")
            }
            predicates.append { ($0.lock != nil) == isLocked }
        }
        if mayUseAllFilters || call.isAtLeast(83) { try readOpenFilters() }
        guard mayUseAllFilters else { return }
        if let host = call.query["host"] { query.host = HostName(host) }
        add("uuid") { $0.id.rawValue }
        add("description") { $0.description ?? "" }
        add("hostname") { $0.hostname }
        add("launch_index") { String($0.launchIndex) }
        add("root_device_name") { _ in "/dev/vda" }
        add("node") { $0.node ?? $0.host?.rawValue ?? "" }
    }

    /// Those that everybody may use from 2.83 on.
    private mutating func readOpenFilters() throws(APIError) {
        if let user = call.query["user_id"] { query.userID = UserID(user) }
        add("key_name") { $0.keyName ?? "" }
        add("availability_zone") { $0.availabilityZone ?? "" }
        add("vm_state") { $0.vmState.rawValue }
        add("task_state") { $0.taskState?.rawValue ?? "" }
        add("power_state") { String($0.powerState.rawValue) }
        add("progress") { String($0.progress) }
        try addTime("created_at", \.createdAt)
        try addTime("launched_at", \.launchedAt)
        try addTime("terminated_at", \.terminatedAt)
        if let text = call.query["config_drive"] {
            // Every server has one, so a list of those without is empty.
            isEmpty = isEmpty || !(parseFlag(text) ?? false)
        }
    }

    private mutating func add(_ name: String, _ member: @escaping @Sendable (Instance) -> String) {
        guard let wanted = call.query[name] else { return }
        predicates.append { member($0) == wanted }
    }

    private mutating func addTime(
        _ name: String, _ member: @escaping @Sendable (Instance) -> Timestamp?
    ) throws(APIError) {
        guard let wanted = try call.time(name) else { return }
        // Clients know whole seconds.
        predicates.append { instance in
            member(instance).map { $0.microseconds / 1_000_000 == wanted.microseconds / 1_000_000 } ?? false
        }
    }

    private mutating func addPattern(
        _ name: String, _ texts: @escaping @Sendable (Instance) -> [String]
    ) throws(APIError) {
        guard let text = call.query[name], !text.isEmpty else { return }
        let pattern: PatternMatcher
        do {
            pattern = try PatternMatcher(text)
        } catch {
            throw .badRequest("Invalid regular expression in query parameter \(name): \(error.reason).")
        }
        predicates.append { texts($0).contains(where: pattern.matches) }
    }

    private mutating func addTags() {
        addTags("tags") { $0.isSuperset(of: $1) }
        addTags("tags-any") { !$0.isDisjoint(with: $1) }
        addTags("not-tags") { !$0.isSuperset(of: $1) }
        addTags("not-tags-any") { $0.isDisjoint(with: $1) }
    }

    private mutating func addTags(_ name: String, _ rule: @escaping @Sendable (Set<String>, Set<String>) -> Bool) {
        guard let text = call.query[name] else { return }
        let wanted = Set(text.split(separator: ",").map(String.init))
        predicates.append { rule($0.tags, wanted) }
    }

    private mutating func readSort() throws(APIError) {
        let names = call.query.all("sort_key")
        let directions = call.query.all("sort_dir")
        guard directions.allSatisfy({ $0 == "asc" || $0 == "desc" }) else {
            throw .badRequest("Invalid input for query parameter sort_dir: asc or desc is wanted.")
        }
        guard directions.count <= max(1, names.count), names.count <= 8 else {
            throw .badRequest("Sort direction size exceeds sort key size")
        }
        guard !names.isEmpty else {
            guard let direction = directions.first else { return }
            query.sort = [(.createdAt, direction == "asc"), (.id, direction == "asc")]
            return
        }
        query.sort = []
        for (index, name) in names.enumerated() {
            let direction = index < directions.count ? directions[index] : directions.last ?? "desc"
            query.sort.append((try sortKey(name), direction == "asc"))
        }
    }

    private func sortKey(_ name: String) throws(APIError) -> InstanceQuery.SortKey {
        switch name {
        case "display_name", "name": return .name
        case "uuid", "id": return .id
        case "host", "node":
            guard call.caller.isAdmin else { throw .forbidden("Only administrators may sort servers by \(name).") }
            return .host
        default:
            guard let key = InstanceQuery.SortKey(rawValue: name), key != .locked || call.isAtLeast(73) else {
                throw .badRequest("Invalid input for query parameter sort_key: servers are not sorted by '\(name)'.")
            }
            return key
        }
    }
}
