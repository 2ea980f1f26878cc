internal import Model

/// What is asked of one provider: amounts, traits, aggregates, its place in a tree.
struct ProviderQuery: Sendable {
    private static let longestList = 256

    private(set) var resources: [String: Int] = [:]
    /// Of each entry at least one.
    private(set) var required: [Set<String>] = []
    private(set) var forbidden: Set<String> = []
    /// Aggregates by their uuids: of each entry at least one.
    private(set) var memberOf: [Set<String>] = []
    private(set) var notMemberOf: Set<String> = []
    private(set) var tree: String?

    var isEmpty: Bool {
        resources.isEmpty && required.isEmpty && forbidden.isEmpty && memberOf.isEmpty && notMemberOf.isEmpty
            && tree == nil
    }

    /// Every trait that is named.
    var traits: Set<String> { required.reduce(into: forbidden) { $0.formUnion($1) } }

    /// Whether the provider has what is asked for, each amount for itself.
    func admits(_ provider: ResourceProvider) -> Bool {
        memberOf.allSatisfy { !$0.isDisjoint(with: provider.aggregates) }
            && notMemberOf.isDisjoint(with: provider.aggregates) && (tree == nil || tree == provider.uuid)
            && forbidden.isDisjoint(with: provider.traits)
            && required.allSatisfy { !$0.isDisjoint(with: provider.traits) }
            && resources.allSatisfy { provider.inventory(of: $0.key)?.admits($0.value) ?? false }
    }

    /// `VCPU:2,MEMORY_MB:512`.
    mutating func readResources(_ text: String) throws(PlacementError) {
        for part in try Self.parts(text, "resources") {
            let pair = part.split(separator: ":", omittingEmptySubsequences: false)
            guard pair.count == 2, let amount = Int(pair[1]), amount > 0 else {
                throw .badQuery(
                    "Invalid resources parameter '\(text.prefix(128))': it has the form VCPU:2,MEMORY_MB:1024.")
            }
            let name = String(pair[0])
            guard Vocabulary.resourceClasses.contains(name) else {
                throw .badQuery("Invalid resource class in resources parameter: \(name.prefix(64))")
            }
            guard resources.updateValue(amount, forKey: name) == nil else {
                throw .badQuery("The resource class \(name) is given twice in the resources parameter.")
            }
        }
    }

    /// `A,!B`, from 1.39 also `in:A,B`.
    mutating func readRequired(_ text: String, _ call: PlacementCall) throws(PlacementError) {
        if call.isAtLeast(39), text.hasPrefix("in:") {
            var any: Set<String> = []
            for part in try Self.parts(text.dropFirst(3), "required") { any.insert(try Self.trait(part)) }
            return required.append(any)
        }
        for part in try Self.parts(text, "required") {
            if call.isAtLeast(22), part.hasPrefix("!") {
                forbidden.insert(try Self.trait(part.dropFirst()))
            } else {
                required.append([try Self.trait(part)])
            }
        }
    }

    /// A uuid or `in:` with several, from 1.32 also `!` before either.
    mutating func readMemberOf(_ text: String, _ call: PlacementCall) throws(PlacementError) {
        var rest = text[...]
        var isForbidden = false
        if call.isAtLeast(32), rest.hasPrefix("!") {
            isForbidden = true
            rest = rest.dropFirst()
        }
        let list = try rest.hasPrefix("in:") ? Self.parts(rest.dropFirst(3), "member_of") : [rest]
        for uuid in list where !isUUID(String(uuid)) {
            throw .badQuery("Invalid member_of parameter: '\(uuid.prefix(64))' is not a uuid.")
        }
        let uuids = Set(list.map { $0.lowercased() })
        if isForbidden { notMemberOf.formUnion(uuids) } else { memberOf.append(uuids) }
    }

    mutating func readTree(_ text: String) throws(PlacementError) {
        guard isUUID(text) else {
            throw .badQuery("Invalid in_tree parameter: '\(text.prefix(64))' is not a uuid.")
        }
        tree = text.lowercased()
    }

    /// Throws 400 for custom traits that nothing has. Of the standard ones a host may have any, or none.
    func requireKnown(_ providers: [ResourceProvider]) throws(PlacementError) {
        let custom = traits.filter { $0.hasPrefix("CUSTOM_") }
        guard !custom.isEmpty else { return }
        let unknown = custom.subtracting(Vocabulary.traits(of: providers)).sorted()
        guard unknown.isEmpty else { throw .badQuery("No such trait(s): \(unknown.joined(separator: ", ")).") }
    }

    private static func trait(_ text: Substring) throws(PlacementError) -> String {
        guard Vocabulary.isName(text) else {
            throw .badQuery("Invalid trait in required parameter: '\(text.prefix(64))'.")
        }
        return String(text)
    }

    private static func parts(_ text: some StringProtocol, _ name: String) throws(PlacementError) -> [Substring] {
        let parts = Substring(text).split(separator: ",", omittingEmptySubsequences: false)
        guard parts.count <= longestList, !parts.contains("") else {
            throw PlacementError(
                400, "Invalid query string parameters: '\(name)' is a list of 1 to \(longestList) values.",
                code: .missingQueryValue)
        }
        return parts
    }
}
