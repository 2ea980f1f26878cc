internal import Libvirt
internal import Model

/// Makes Nova's `cpu.virt_driver` metrics of the host's processor times.
struct ProcessorMeter: Sendable {
    private var last: NodeCPUTimes?

    /// The metrics of `times`. The shares are those of the time since the last call; at the first call, since the boot.
    mutating func metrics(_ times: NodeCPUTimes, frequency: Int, at moment: Timestamp) -> [HostMetric] {
        let before = last.flatMap { $0.isBefore(times) ? $0 : nil } ?? NodeCPUTimes()
        last = times
        let spent = [
            ("kernel", times.kernel, times.kernel - before.kernel), ("user", times.user, times.user - before.user),
            ("idle", times.idle, times.idle - before.idle), ("iowait", times.iowait, times.iowait - before.iowait),
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
    /// Whether every count has grown or stayed: they begin anew with a boot.
    fileprivate func isBefore(_ later: NodeCPUTimes) -> Bool {
        kernel <= later.kernel && user <= later.user && idle <= later.idle && iowait <= later.iowait
    }
}
