import Telemetry
import Testing

@Suite("Metrics")
struct MetricsTests {
    private let metrics = Metrics()

    private var text: String { String(decoding: metrics.render(), as: UTF8.self) }

    @Test("A family has HELP and TYPE once, and label sets in order")
    func counters() {
        let calls = metrics.counter("agent_calls_total", help: "Calls.\nBy result.")
        calls.increment(labels: [("result", "ok"), ("call", "create")])
        calls.increment(by: 2, labels: [("call", "create"), ("result", "ok")])
        metrics.counter("agent_calls_total", help: "again").increment(labels: [("call", "a\"b\\c\nd")])
        #expect(
            text == """
                # HELP agent_calls_total Calls.\\nBy result.
                # TYPE agent_calls_total counter
                agent_calls_total{call="a\\"b\\\\c\\nd"} 1
                agent_calls_total{call="create",result="ok"} 3

                """)
    }

    @Test("A gauge is set, moved and removed")
    func gauges() {
        let gauge = metrics.gauge("agent_domains", help: "Domains.")
        gauge.set(2.5, labels: [("state", "running")])
        gauge.cell(labels: [("state", "running")]).add(1)
        gauge.set(1)
        #expect(text.hasSuffix("agent_domains 1\nagent_domains{state=\"running\"} 3.5\n"))
        gauge.remove(labels: [("state", "running")])
        #expect(!text.contains("running"))
    }

    @Test("A histogram's buckets are cumulative and end with infinity")
    func histograms() {
        let seconds = metrics.histogram("claim_seconds", help: "Claims.", buckets: [0.1, 1])
        for value in [0.05, 0.1, 0.5, 7] { seconds.observe(value) }
        #expect(
            text == """
                # HELP claim_seconds Claims.
                # TYPE claim_seconds histogram
                claim_seconds_bucket{le="0.1"} 2
                claim_seconds_bucket{le="1"} 3
                claim_seconds_bucket{le="+Inf"} 4
                claim_seconds_sum 7.65
                claim_seconds_count 4

                """)
    }

    @Test("Label sets beyond the bound are dropped and counted")
    func bound() {
        let counter = metrics.counter("x_total", help: "X.")
        for index in 0..<Metrics.labelSetLimit + 5 { counter.increment(labels: [("i", "\(index)")]) }
        #expect(text.contains("apus_metrics_dropped_total{family=\"x_total\"} 5\n"))
        #expect(counter.value(labels: [("i", "0")]) == 1)
        #expect(counter.value(labels: [("i", "\(Metrics.labelSetLimit)")]) == 0)
    }
}
