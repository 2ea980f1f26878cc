internal import Synchronization

/// All metric families of a process, in the text format that Prometheus reads.
///
/// Asking twice for the same name gives the same family. Names carry unit and kind: `agent_claim_seconds`,
/// `agent_libvirt_calls_total`.
public final class Metrics: Sendable {
    /// The process's own registry.
    public static let shared = Metrics()

    /// Label sets one family may have; further ones are dropped and counted.
    public static let labelSetLimit = 1_000

    private let families = Mutex<[String: Family]>([:])

    public init() {}

    /// A count that only rises; the name ends in `_total`.
    public func counter(_ name: String, help: String) -> Counter {
        Counter(family: family(name, help, .counter))
    }

    /// A figure that rises and falls.
    public func gauge(_ name: String, help: String) -> Gauge {
        Gauge(family: family(name, help, .gauge))
    }

    /// A distribution over fixed buckets, whose upper bounds are `buckets` (rising) and infinity.
    public func histogram(
        _ name: String, help: String, buckets: [Double] = Histogram.defaultBuckets
    ) -> Histogram {
        Histogram(family: family(name, help, .histogram(buckets)))
    }

    /// Every family in `text/plain; version=0.0.4`, sorted by name.
    public func render() -> [UInt8] {
        let all = families.withLock { $0.values.sorted { $0.name < $1.name } }
        var text = ""
        for family in all { family.render(into: &text) }
        let dropped = all.map { ($0.name, $0.dropped) }.filter { $0.1 > 0 }
        if !dropped.isEmpty {
            text +=
                "# HELP apus_metrics_dropped_total Observations dropped because their family has too many label sets.\n"
            text += "# TYPE apus_metrics_dropped_total counter\n"
            for (name, count) in dropped { text += "apus_metrics_dropped_total{family=\"\(name)\"} \(count)\n" }
        }
        return Array(text.utf8)
    }

    private func family(_ name: String, _ help: String, _ kind: Family.Kind) -> Family {
        families.withLock { families in
            if let known = families[name] {
                // Two kinds under one name would make the exposition unreadable: the second gets its own, unseen.
                return known.kind == kind ? known : Family(name: name, help: help, kind: kind)
            }
            let made = Family(name: name, help: help, kind: kind)
            families[name] = made
            return made
        }
    }
}

/// A count that only rises.
public struct Counter: Sendable {
    let family: Family

    public func increment(by amount: Int = 1, labels: [(String, String)] = []) {
        family.cell(labels)?.add(Double(amount))
    }

    /// The count of one label set, looked up once: for hot paths.
    public func cell(labels: [(String, String)] = []) -> CounterCell { CounterCell(cell: family.cell(labels)) }

    /// The present count of one label set; 0 when it was never counted.
    public func value(labels: [(String, String)] = []) -> Double { family.value(labels) }
}

/// One label set's count.
public struct CounterCell: Sendable {
    let cell: Cell?

    public func increment(by amount: Int = 1) { cell?.add(Double(amount)) }
}

/// A figure that rises and falls.
public struct Gauge: Sendable {
    let family: Family

    public func set(_ value: Double, labels: [(String, String)] = []) { family.cell(labels)?.set(value) }

    public func add(_ amount: Double, labels: [(String, String)] = []) { family.cell(labels)?.add(amount) }

    /// The figure of one label set, looked up once: for hot paths.
    public func cell(labels: [(String, String)] = []) -> GaugeCell { GaugeCell(cell: family.cell(labels)) }

    /// Forgets one label set, when what it describes is gone.
    public func remove(labels: [(String, String)]) { family.remove(labels) }

    /// The present figure of one label set; 0 when it was never set.
    public func value(labels: [(String, String)] = []) -> Double { family.value(labels) }
}

/// One label set's figure.
public struct GaugeCell: Sendable {
    let cell: Cell?

    public func set(_ value: Double) { cell?.set(value) }
    public func add(_ amount: Double) { cell?.add(amount) }
}

/// A distribution over fixed buckets.
public struct Histogram: Sendable {
    /// From a millisecond to a minute, in seconds.
    public static let defaultBuckets: [Double] = [
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
    ]

    let family: Family

    public func observe(_ value: Double, labels: [(String, String)] = []) { family.cell(labels)?.observe(value) }
}
