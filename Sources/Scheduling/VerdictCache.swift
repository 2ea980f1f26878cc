/// What of a request a filter's verdicts depend on, beside the host: requests with the same key have the same verdicts on
/// a host that has not changed.
public struct VerdictKey: Sendable, Hashable {
    var filter: String
    var specs: [String: String]
    var properties: [String: String]
    var amounts: [Int]
    var text: String

    init(
        _ filter: String, specs: [String: String] = [:], properties: [String: String] = [:], amounts: [Int] = [],
        text: String = ""
    ) {
        (self.filter, self.specs, self.properties) = (filter, specs, properties)
        (self.amounts, self.text) = (amounts, text)
    }
}

/// Verdicts of the filters that are dear to ask, one byte a host and key: a cloud has few flavors and images, and between
/// two decisions few of its hosts change.
struct VerdictCache: Sendable {
    enum Verdict: UInt8 { case unknown, passes, refused }

    private struct Table {
        var key: VerdictKey
        var verdicts: [UInt8]
        var usedAt: Int
    }

    /// Keys at once; the one that was used longest ago makes room.
    private static let limit = 32

    private var tables: [Table] = []
    private var places: [VerdictKey: Int] = [:]
    private var clock = 0

    /// Keeps those of `positions` that pass; asks for what is not known.
    ///
    /// - Parameter count: how many hosts there are.
    mutating func sift(
        _ positions: [Int], of count: Int, _ key: VerdictKey, _ passes: (Int) -> Bool
    ) -> [Int] {
        let place = place(of: key, count)
        var verdicts: [UInt8] = []
        swap(&verdicts, &tables[place].verdicts)
        var kept: [Int] = []
        kept.reserveCapacity(positions.count)
        for position in positions {
            switch Verdict(rawValue: verdicts[position]) {
            case .passes: kept.append(position)
            case .refused: break
            case .unknown, nil:
                let verdict: Verdict = passes(position) ? .passes : .refused
                verdicts[position] = verdict.rawValue
                if verdict == .passes { kept.append(position) }
            }
        }
        swap(&verdicts, &tables[place].verdicts)
        return kept
    }

    private mutating func place(of key: VerdictKey, _ count: Int) -> Int {
        clock += 1
        if let known = places[key] {
            tables[known].usedAt = clock
            return known
        }
        let table = Table(key: key, verdicts: Array(repeating: 0, count: count), usedAt: clock)
        if tables.count < Self.limit {
            tables.append(table)
            places[key] = tables.count - 1
            return tables.count - 1
        }
        let oldest = tables.indices.min { tables[$0].usedAt < tables[$1].usedAt } ?? 0
        places[tables[oldest].key] = nil
        tables[oldest] = table
        places[key] = oldest
        return oldest
    }

    /// The host at `position` is not what it was.
    mutating func forget(_ position: Int) {
        for place in tables.indices { tables[place].verdicts[position] = 0 }
    }

    mutating func append() {
        for place in tables.indices { tables[place].verdicts.append(0) }
    }

    /// The last host moves to `position`.
    mutating func moveLast(to position: Int) {
        for place in tables.indices {
            let last = tables[place].verdicts.removeLast()
            if position < tables[place].verdicts.count { tables[place].verdicts[position] = last }
        }
    }
}
