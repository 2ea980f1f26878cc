internal import Telemetry

/// The figures this target keeps; `call` is the C function, `result` is `ok` or the error's code.
enum LibvirtMetrics {
    static let calls = Metrics.shared.counter(
        "libvirt_calls_total", help: "Calls into libvirt, by function and result.")
    static let seconds = Metrics.shared.histogram(
        "libvirt_call_seconds", help: "Time a call into libvirt took, waiting for a thread included.")
    static let stuck = Metrics.shared.gauge(
        "libvirt_stuck_calls", help: "Calls over their deadline whose thread has not come back.")
    static let events = Metrics.shared.counter("libvirt_events_total", help: "Events received from libvirt, by kind.")
    static let eventOverflows = Metrics.shared.counter(
        "libvirt_event_overflows_total", help: "Times a subscriber's buffer was full and it was told to resynchronise.")
    static let eventLoopFailures = Metrics.shared.counter(
        "libvirt_event_loop_failures_total", help: "Failed rounds of libvirt's event loop.")
    static let connects = Metrics.shared.counter(
        "libvirt_connects_total", help: "Attempts to connect to libvirt, by result.")

    static func record(_ call: String, _ error: LibvirtError?, since start: ContinuousClock.Instant) {
        let duration = ContinuousClock.now - start
        calls.increment(labels: [("call", call), ("result", error?.metricName ?? "ok")])
        seconds.observe(duration / .seconds(1), labels: [("call", call)])
    }
}
