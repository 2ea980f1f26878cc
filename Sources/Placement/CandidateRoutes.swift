internal import Database
internal import HTTP
internal import Model

/// Which providers could give what is asked for. The scheduler does not ask here: it sees the hosts themselves.
extension PlacementRoutes {
    mutating func addCandidates() {
        let database = database
        add("/allocation_candidates", since: 10) { call in
            let request = try CandidateRequest(call)
            let all = try await ResourceProvider.all(database)
            for group in request.groups.values { try group.requireKnown(all) }
            try request.root.requireKnown(all)
            let found = all.filter(request.admits).prefix(request.limit)
            return PlacementAnswer(capacity: 256 + found.count * 1_024) { writer in
                writer.array("allocation_requests") { writer in
                    for provider in found { writer.object { writeRequest(provider, request, call, to: &$0) } }
                }
                writer.object("provider_summaries") { writer in
                    for provider in found {
                        writer.object(provider.uuid) { writeSummary(provider, request, call, to: &$0) }
                    }
                }
            }
        }
    }
}

/// The query of `allocation_candidates`: groups of what one provider is to give, by the suffix of their parameters.
private struct CandidateRequest {
    private static let longestGroups = 64

    private(set) var groups: [String: ProviderQuery] = [:]
    /// What the root of the tree, here the provider itself, is to have.
    private(set) var root = ProviderQuery()
    private(set) var limit = Int.max
    /// Whether each named group is to come from a provider of its own.
    private var isIsolated = false
    /// Everything that is asked for, by class.
    private(set) var total: [String: Int] = [:]

    init(_ call: PlacementCall) throws(PlacementError) {
        var (policy, seen, subtrees): (String?, Set<String>, [Substring]) = (nil, [], [])
        for (name, value) in call.request.query.items {
            let isFirst = seen.insert(name).inserted
            switch name {
            case "limit" where call.isAtLeast(16) && isFirst:
                guard let number = Int(value), number > 0 else {
                    throw .badQuery("Invalid query string parameters: 'limit' is a whole number from 1 on.")
                }
                limit = number
            case "group_policy" where call.isAtLeast(25) && isFirst: policy = value
            case "root_required" where call.isAtLeast(35) && isFirst: try root.readRequired(value, call)
            case "same_subtree" where call.isAtLeast(36):
                subtrees += value.split(separator: ",", omittingEmptySubsequences: false)
            default: try read(name, value, call, isFirst: isFirst)
            }
        }
        try finish(call, policy: policy, subtrees: subtrees)
    }

    /// A parameter of a group: `resources`, `required`, `member_of` or `in_tree`, with the group's suffix.
    private mutating func read(
        _ name: String, _ value: String, _ call: PlacementCall, isFirst: Bool
    ) throws(PlacementError) {
        let kinds = [("resources", 10, Int.max), ("required", 17, 39), ("member_of", 21, 24), ("in_tree", 31, Int.max)]
        guard let (kind, since, repeatable) = kinds.first(where: { name.hasPrefix($0.0) }), call.isAtLeast(since),
            Self.isSuffix(name.dropFirst(kind.count), call)
        else {
            throw .badQuery(
                "Invalid query string parameters: '\(name.prefix(64))' was unexpected at version \(call.version).")
        }
        guard isFirst || call.isAtLeast(repeatable) else {
            throw PlacementError(400, "Query parameter '\(name)' is given twice.", code: .duplicateQueryKey)
        }
        let suffix = String(name.dropFirst(kind.count))
        var group = groups[suffix] ?? ProviderQuery()
        switch kind {
        case "resources": try group.readResources(value)
        case "required": try group.readRequired(value, call)
        case "member_of": try group.readMemberOf(value, call)
        default: try group.readTree(value)
        }
        groups[suffix] = group
        guard groups.count <= Self.longestGroups else {
            throw .badQuery("There are more than \(Self.longestGroups) groups.")
        }
    }

    /// None; a number from 1.25 on; from 1.33 on a name.
    private static func isSuffix(_ text: Substring, _ call: PlacementCall) -> Bool {
        guard !text.isEmpty else { return true }
        guard call.isAtLeast(25), text.utf8.count <= 64 else { return false }
        return text.utf8.allSatisfy { byte in
            switch byte {
            case 48...57: true
            case 65...90, 97...122, 45, 95: call.isAtLeast(33)
            default: false
            }
        }
    }

    private mutating func finish(
        _ call: PlacementCall, policy: String?, subtrees: [Substring]
    ) throws(PlacementError) {
        for suffix in subtrees where groups[String(suffix)] == nil || suffix.isEmpty {
            throw .badQuery("Invalid same_subtree parameter: there is no group '\(suffix.prefix(64))'.")
        }
        for (suffix, group) in groups where group.resources.isEmpty && !subtrees.contains(Substring(suffix)) {
            throw .badQuery("The group '\(suffix)' asks for no resources.")
        }
        guard groups.values.contains(where: { !$0.resources.isEmpty }) else {
            throw PlacementError(
                400, "Nothing is asked for: there is no resources parameter, with a suffix or without.",
                code: .missingQueryValue)
        }
        let named = groups.filter { !$0.key.isEmpty && !$0.value.resources.isEmpty }.count
        switch policy {
        case nil where named > 1:
            throw .badQuery("With more than one group that has a suffix, group_policy is required.")
        case nil, "none": break
        case "isolate": isIsolated = named > 1
        default: throw .badQuery("Invalid query string parameters: 'group_policy' is 'none' or 'isolate'.")
        }
        for group in groups.values {
            for (name, amount) in group.resources {
                let (sum, isTooMuch) = (total[name] ?? 0).addingReportingOverflow(amount)
                total[name] = isTooMuch ? .max : sum
            }
        }
    }

    /// Whether the provider can give all groups together. No provider has others below it that could take a group over,
    /// so groups that want to be apart find no place.
    func admits(_ provider: ResourceProvider) -> Bool {
        !isIsolated && root.admits(provider) && groups.values.allSatisfy { $0.admits(provider) }
            && total.allSatisfy { provider.inventory(of: $0.key)?.admits($0.value) ?? false }
    }
}

private func writeRequest(
    _ provider: ResourceProvider, _ request: CandidateRequest, _ call: PlacementCall, to writer: inout JSONWriter
) {
    func writeResources(to writer: inout JSONWriter) {
        writer.object("resources") { writer in
            for (name, amount) in request.total.sorted(by: { $0.key < $1.key }) { writer.member(name, amount) }
        }
    }
    guard call.isAtLeast(12) else {
        return writer.array("allocations") { writer in
            writer.object { writer in
                writer.object("resource_provider") { $0.member("uuid", provider.uuid) }
                writeResources(to: &writer)
            }
        }
    }
    writer.object("allocations") { writer in
        writer.object(provider.uuid) { writeResources(to: &$0) }
    }
    guard call.isAtLeast(34) else { return }
    writer.object("mappings") { writer in
        for suffix in request.groups.keys.sorted() { writer.array(suffix) { $0.string(provider.uuid) } }
    }
}

private func writeSummary(
    _ provider: ResourceProvider, _ request: CandidateRequest, _ call: PlacementCall, to writer: inout JSONWriter
) {
    writer.object("resources") { writer in
        for inventory in provider.inventories
        where call.isAtLeast(27) || request.total[inventory.resourceClass] != nil {
            writer.object(inventory.resourceClass) {
                $0.member("capacity", inventory.capacity)
                $0.member("used", inventory.used)
            }
        }
    }
    if call.isAtLeast(17) {
        writer.array("traits") { writer in
            for trait in provider.traits.sorted() { writer.string(trait) }
        }
    }
    if call.isAtLeast(29) {
        writer.member("parent_provider_uuid", nil as String?)
        writer.member("root_provider_uuid", provider.uuid)
    }
}
