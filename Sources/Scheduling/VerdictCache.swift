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
        var verdicts: [UInt8]
        var usedAt: Int
    }

    /// Keys at once; the one that was used longest ago makes room.
    private static let limit = 32

    private var tables: [VerdictKey: Table] = [:]
    private var clock = 0

    /// Keeps those of `positions` that pass; asks for what is not known.
    mutating func sift(
        _ positions: [Int], of count: Int, _ key: VerdictKey, _ passes: (Int) -> Bool
    ) -> [Int] {
        clock += 1
        var table = tables.removeValue(forKey: key) ?? Table(verdicts: Array(repeating: 0, count: count), usedAt: clock)
        table.usedAt = clock
        var kept: [Int] = []
        kept.reserveCapacity(positions.count)
        for position in positions {
            switch Verdict(rawValue: table.verdicts[position]) {
            case .passes: kept.append(position)
            case .refused: break
            case .unknown, nil:
                let verdict: Verdict = passes(position) ? .passes : .refused
                table.verdicts[position] = verdict.rawValue
                if verdict == .passes { kept.append(position) }
            }
        }
        if tables.count >= Self.limit, let oldest = tables.min(by: { $0.value.usedAt < $1.value.usedAt }) {
            tables[oldest.key] = nil
        }
        tables[key] = table
        return kept
    }

    /// The host at `position` is not what it was.
    mutating func forget(_ position: Int) {
        for key in tables.keys { tables[key]?.verdicts[position] = 0 }
    }

    mutating func append() {
        for key in tables.keys { tables[key]?.verdicts.append(0) }
    }

    /// The last host moves to `position`.
    mutating func moveLast(to position: Int) {
        for key in tables.keys {
            guard let last = tables[key]?.verdicts.popLast() else { continue }
            if let count = tables[key]?.verdicts.count, position < count { tables[key]?.verdicts[position] = last }
        }
    }
}
