import Libvirt
import Model
import Testing

@testable import LibvirtDriver

@Suite("How busy the host's processors are")
struct ProcessorMeterTests {
    private func times(kernel: UInt64, user: UInt64, idle: UInt64, iowait: UInt64) -> NodeCPUTimes {
        var times = NodeCPUTimes()
        (times.kernel, times.user, times.idle, times.iowait) = (kernel, user, idle, iowait)
        return times
    }

    /// The values by name, all measured at `moment`.
    private func values(_ metrics: [HostMetric], at moment: Timestamp) -> [String: Double] {
        #expect(metrics.allSatisfy { $0.measuredAt == moment && $0.source == "libvirt.LibvirtDriver" })
        return Dictionary(metrics.map { ($0.name, ($0.value * 1e6).rounded() / 1e6) }) { first, _ in first }
    }

    private func shares(_ metrics: [HostMetric]) -> [String: Double] {
        values(metrics, at: metrics[0].measuredAt).filter { $0.key.hasSuffix("percent") }
    }

    @Test("The first look tells of the time since the boot, the next of the time between the two")
    func two() {
        var meter = ProcessorMeter()
        let (first, second) = (Timestamp(seconds: 1_000), Timestamp(seconds: 1_060))
        let boot = times(kernel: 100, user: 300, idle: 500, iowait: 100)
        #expect(
            values(meter.metrics(boot, frequency: 2_400, at: first), at: first) == [
                "cpu.frequency": 2_400, "cpu.kernel.time": 100, "cpu.user.time": 300, "cpu.idle.time": 500,
                "cpu.iowait.time": 100, "cpu.kernel.percent": 0.1, "cpu.user.percent": 0.3, "cpu.idle.percent": 0.5,
                "cpu.iowait.percent": 0.1, "cpu.percent": 0.4,
            ])
        let later = times(kernel: 200, user: 600, idle: 550, iowait: 150)
        #expect(
            values(meter.metrics(later, frequency: 3_100, at: second), at: second) == [
                "cpu.frequency": 3_100, "cpu.kernel.time": 200, "cpu.user.time": 600, "cpu.idle.time": 550,
                "cpu.iowait.time": 150, "cpu.kernel.percent": 0.2, "cpu.user.percent": 0.6, "cpu.idle.percent": 0.1,
                "cpu.iowait.percent": 0.1, "cpu.percent": 0.8,
            ])
    }

    @Test("A clock that is set back changes no share: they are of processors' time")
    func clockSetBack() {
        var (steady, turned) = (ProcessorMeter(), ProcessorMeter())
        let samples = [
            times(kernel: 100, user: 300, idle: 500, iowait: 100),
            times(kernel: 150, user: 500, idle: 700, iowait: 150),
        ]
        var seen: [[[String: Double]]] = [[], []]
        for (number, sample) in samples.enumerated() {
            let forth = steady.metrics(sample, frequency: 1, at: Timestamp(seconds: 1_000 + Int64(number) * 60))
            let back = Timestamp(seconds: 1_000 - Int64(number) * 600)
            let metrics = turned.metrics(sample, frequency: 1, at: back)
            _ = values(metrics, at: back)
            seen[0].append(shares(forth))
            seen[1].append(shares(metrics))
        }
        #expect(seen[0] == seen[1])
        #expect(seen[1][1]["cpu.percent"] == 0.5)
    }

    @Test("Counts that have begun anew are of the time since")
    func boot() {
        var meter = ProcessorMeter()
        _ = meter.metrics(
            times(kernel: 1_000, user: 3_000, idle: 5_000, iowait: 1_000), frequency: 1, at: .init(seconds: 1))
        let metrics = meter.metrics(
            times(kernel: 10, user: 20, idle: 60, iowait: 10), frequency: 1, at: .init(seconds: 2))
        #expect(
            shares(metrics) == [
                "cpu.kernel.percent": 0.1, "cpu.user.percent": 0.2, "cpu.idle.percent": 0.6, "cpu.iowait.percent": 0.1,
                "cpu.percent": 0.3,
            ])
    }

    @Test("One count that goes back a little has not grown; the others are of the time between the two looks")
    func slipping() {
        var meter = ProcessorMeter()
        _ = meter.metrics(
            times(kernel: 1_000, user: 3_000, idle: 5_000, iowait: 1_000), frequency: 1, at: .init(seconds: 1))
        let metrics = meter.metrics(
            times(kernel: 1_025, user: 3_025, idle: 5_050, iowait: 995), frequency: 1, at: .init(seconds: 2))
        #expect(
            shares(metrics) == [
                "cpu.kernel.percent": 0.25, "cpu.user.percent": 0.25, "cpu.idle.percent": 0.5, "cpu.iowait.percent": 0,
                "cpu.percent": 0.5,
            ])
    }

    @Test("Between two looks without any time there are no shares, and no absurd ones")
    func noTime() {
        var meter = ProcessorMeter()
        let sample = times(kernel: 100, user: 300, idle: 500, iowait: 100)
        _ = meter.metrics(sample, frequency: 1, at: .init(seconds: 1))
        let metrics = meter.metrics(sample, frequency: 1, at: .init(seconds: 1))
        #expect(shares(metrics).isEmpty && metrics.count == 5 && metrics.allSatisfy { $0.value.isFinite })
        var empty = ProcessorMeter()
        #expect(shares(empty.metrics(NodeCPUTimes(), frequency: 0, at: .init(seconds: 1))).isEmpty)
    }
}
