public import Model

/// What filters and weighers read of an aggregate; many hosts share one.
public final class AggregateFacts: Sendable, Hashable {
    public let name: String
    public let metadata: [String: String]

    public init(name: String, metadata: [String: String]) { (self.name, self.metadata) = (name, metadata) }

    /// What ought to be a number, for filters or weighers, and is none.
    public var unreadable: [(key: String, value: String)] {
        metadata.filter { key, value in
            (key.hasSuffix("_allocation_ratio") || key.hasSuffix("_weight_multiplier") || Self.limits.contains(key))
                && number(value) == nil
        }.sorted { $0.key < $1.key }.map { (key: $0.key, value: $0.value) }
    }

    private static let limits: Set<String> = ["max_instances_per_host", "max_io_ops_per_host"]

    /// The facts of each host's aggregates, in their order; hosts of one aggregate share one.
    public static func byHost(_ aggregates: [Aggregate]) -> [HostName: [AggregateFacts]] {
        var found: [HostName: [AggregateFacts]] = [:]
        for aggregate in aggregates {
            let shared = AggregateFacts(name: aggregate.name, metadata: aggregate.metadata)
            for host in aggregate.hosts { found[host, default: []].append(shared) }
        }
        return found
    }

    public static func == (left: AggregateFacts, right: AggregateFacts) -> Bool {
        left === right || (left.name == right.name && left.metadata == right.metadata)
    }

    public func hash(into hasher: inout Hasher) { hasher.combine(name) }
}

extension HostState {
    /// The values of a key over all aggregates of the host, each split at commas and trimmed; `nil` when none has it.
    func merged(_ key: String) -> Set<String>? {
        var found: Set<String>?
        for aggregate in aggregates {
            guard let value = aggregate.metadata[key] else { continue }
            found = (found ?? []).union(words(value))
        }
        return found
    }

    /// The least of the numbers that the host's aggregates have under a key; `nil` when none has one. What is no number is
    /// as if it were not there.
    func least(_ key: String) -> Double? {
        aggregates.compactMap { $0.metadata[key].flatMap(number) }.min()
    }
}

/// Between commas, without spaces around.
func words(_ text: String) -> [String] { text.split(separator: ",").map { trimmed($0) } }

func trimmed(_ text: some StringProtocol) -> String {
    var rest = Substring(text)
    while rest.first?.isWhitespace == true { rest.removeFirst() }
    while rest.last?.isWhitespace == true { rest.removeLast() }
    return String(rest)
}

/// A finite number, however it is written.
func number(_ text: some StringProtocol) -> Double? {
    guard let value = Double(trimmed(text)), value.isFinite else { return nil }
    return value
}
