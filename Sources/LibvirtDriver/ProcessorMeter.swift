internal import Libvirt
internal import Model

/// Makes Nova's `cpu.virt_driver` metrics of the host's processor times.
struct ProcessorMeter: Sendable {
    private var last: NodeCPUTimes?

    /// The metrics of `times`. The shares are those of the time since the last call; at the first call, since the boot.
    mutating func metrics(_ times: NodeCPUTimes, frequency: Int, at moment: Timestamp) -> [HostMetric] {
        // Counts that are less in all have begun anew with a boot.
        let before = last.flatMap { $0.sum <= times.sum ? $0 : nil } ?? NodeCPUTimes()
        last = times
        func spent(_ count: KeyPath<NodeCPUTimes, UInt64>) -> UInt64 {
            // Linux lets the count of I/O waits go back a little.
            times[keyPath: count] - min(times[keyPath: count], before[keyPath: count])
        }
        let spent = [
            ("kernel", times.kernel, spent(\.kernel)), ("user", times.user, spent(\.user)),
            ("idle", times.idle, spent(\.idle)), ("iowait", times.iowait, spent(\.iowait)),
        ]
        let whole = spent.reduce(0.0) { $0 + Double($1.2) }
        func metric(_ name: String, _ value: Double) -> HostMetric {
            HostMetric(name: "cpu." + name, value: value, source: "libvirt.LibvirtDriver", measuredAt: moment)
        }
        var metrics = [metric("frequency", Double(frequency))]
        for (name, total, _) in spent { metrics.append(metric(name + ".time", Double(total))) }
        guard whole > 0 else { return metrics }
        for (name, _, part) in spent { metrics.append(metric(name + ".percent", Double(part) / whole)) }
        let idle = Double(spent[2].2) + Double(spent[3].2)
        metrics.append(metric("percent", 1 - idle / whole))
        return metrics
    }
}

extension NodeCPUTimes {
    fileprivate var sum: Double { Double(kernel) + Double(user) + Double(idle) + Double(iowait) }
}
