internal import Model
internal import Telemetry

/// The engine's figures.
struct TaskMetrics: Sendable {
    private let running = Metrics.shared.gauge("apus_tasks_running", help: "Tasks that this process works on.")
    private let steps = Metrics.shared.counter("apus_task_steps_total", help: "Attempts of steps that ended.")
    private let seconds = Metrics.shared.histogram("apus_task_step_seconds", help: "Time of an attempt of a step.")

    func taskBegan(_ kind: String) { running.add(1, labels: [("kind", kind)]) }
    func taskEnded(_ kind: String) { running.add(-1, labels: [("kind", kind)]) }

    func attemptEnded(_ kind: String, _ step: String, _ result: String, after length: Duration) {
        steps.increment(labels: [("kind", kind), ("step", step), ("result", result)])
        seconds.observe(length.inSeconds, labels: [("kind", kind), ("step", step)])
    }
}
