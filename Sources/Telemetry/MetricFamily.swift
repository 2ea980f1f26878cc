internal import Synchronization

/// One metric name with all its label sets.
final class Family: Sendable {
    enum Kind: Equatable, Sendable {
        case counter, gauge
        case histogram([Double])
    }

    let name: String
    let help: String
    let kind: Kind
    private let cells = Mutex<[LabelSet: Cell]>([:])
    private let droppedCount = Atomic<Int>(0)

    init(name: String, help: String, kind: Kind) {
        (self.name, self.help, self.kind) = (name, help, kind)
    }

    var dropped: Int { droppedCount.load(ordering: .relaxed) }

    /// The cell of a label set, made when it is new; `nil` when the family is full.
    func cell(_ labels: [(String, String)]) -> Cell? {
        let key = LabelSet(labels)
        return cells.withLock { cells in
            if let known = cells[key] { return known }
            guard cells.count < Metrics.labelSetLimit else {
                droppedCount.add(1, ordering: .relaxed)
                return nil
            }
            let made = Cell(buckets: bounds)
            cells[key] = made
            return made
        }
    }

    func remove(_ labels: [(String, String)]) {
        _ = cells.withLock { $0.removeValue(forKey: LabelSet(labels)) }
    }

    func value(_ labels: [(String, String)]) -> Double {
        cells.withLock { $0[LabelSet(labels)] }?.read().sum ?? 0
    }

    private var bounds: [Double] {
        if case .histogram(let bounds) = kind { bounds } else { [] }
    }

    func render(into text: inout String) {
        let cells = cells.withLock { $0.sorted { $0.key.text < $1.key.text } }
        guard !cells.isEmpty else { return }
        text += "# HELP \(name) \(escaped(help, quotes: false))\n# TYPE \(name) "
        switch kind {
        case .counter: text += "counter\n"
        case .gauge: text += "gauge\n"
        case .histogram: text += "histogram\n"
        }
        for (labels, cell) in cells {
            let reading = cell.read()
            guard case .histogram(let bounds) = kind else {
                text += "\(name)\(labels.braced()) \(number(reading.sum))\n"
                continue
            }
            var total = 0
            for (bound, count) in zip(bounds, reading.counts) {
                total += count
                text += "\(name)_bucket\(labels.braced(adding: "le=\"\(number(bound))\"")) \(total)\n"
            }
            total += reading.counts.last ?? 0
            text += "\(name)_bucket\(labels.braced(adding: "le=\"+Inf\"")) \(total)\n"
            text += "\(name)_sum\(labels.braced()) \(number(reading.sum))\n"
            text += "\(name)_count\(labels.braced()) \(total)\n"
        }
    }
}

/// Labels in the order of their names, already escaped.
struct LabelSet: Hashable, Sendable {
    let text: String

    init(_ labels: [(String, String)]) {
        text = labels.sorted { $0.0 < $1.0 }
            .map { "\($0.0)=\"\(escaped($0.1, quotes: true))\"" }
            .joined(separator: ",")
    }

    func braced(adding extra: String = "") -> String {
        let inside = text.isEmpty || extra.isEmpty ? text + extra : text + "," + extra
        return inside.isEmpty ? "" : "{\(inside)}"
    }
}

/// The figures of one label set.
final class Cell: Sendable {
    struct Reading: Sendable {
        /// The value itself for counters and gauges.
        var sum: Double = 0
        /// One per bucket, the last for what is above all bounds; not cumulative.
        var counts: [Int] = []
    }

    private let buckets: [Double]
    private let reading: Mutex<Reading>

    init(buckets: [Double]) {
        self.buckets = buckets
        reading = Mutex(Reading(counts: Array(repeating: 0, count: buckets.isEmpty ? 0 : buckets.count + 1)))
    }

    func add(_ amount: Double) { reading.withLock { $0.sum += amount } }

    func set(_ value: Double) { reading.withLock { $0.sum = value } }

    func observe(_ value: Double) {
        let index = buckets.firstIndex { value <= $0 } ?? buckets.count
        reading.withLock {
            $0.sum += value
            $0.counts[index] += 1
        }
    }

    func read() -> Reading { reading.withLock { $0 } }
}

private func escaped(_ text: String, quotes: Bool) -> String {
    var result = ""
    for character in text.unicodeScalars {
        switch character {
        case "\\": result += "\\\\"
        case "\n": result += "\\n"
        case "\"" where quotes: result += "\\\""
        default: result.unicodeScalars.append(character)
        }
    }
    return result
}

private func number(_ value: Double) -> String {
    if value.isNaN { return "NaN" }
    if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
    if let whole = Int64(exactly: value) { return String(whole) }
    return "\(value)"
}
