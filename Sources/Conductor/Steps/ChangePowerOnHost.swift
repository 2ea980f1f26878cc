internal import Database
internal import Model
internal import RPC
internal import Tasks

/// The one step of start, stop and reboot.
struct ChangePowerOnHost: TaskStep {
    let name = "change_power_on_host"
    let deadline = Duration.seconds(900)
    let retry = RetryPolicy.standard
    let ledger: InstanceLedger
    let command: HostCommand
    let liveness: Liveness

    func run(_ state: inout PowerTaskState, _ context: StepContext) async throws -> StepOutcome {
        let instance = try await ledger.current(state.instance, context)
        guard let host = instance.host else {
            throw Failure(.conflict, "instance \(state.instance) is on no host")
        }
        let change = state.change
        let progress = try await command.progress(
            ChangePower.self, to: host, instance: state.instance, dispatchedEpoch: &state.dispatchedEpoch, context
        ) { .init(header: $0, change: change) }
        switch progress {
        case .ended(let report):
            if let failure = report.failure { throw failure }
            try await ledger.finishPower(change, report, context)
            return .next
        case .refused(let failure):
            throw failure
        case .undelivered(let failure):
            guard await liveness.isUp(host, now: context.now()) else {
                throw Failure(.unreachable, "host \(host) is down: \(failure.message)")
            }
            throw failure
        case .underWay:
            guard await liveness.isUp(host, now: context.now()) else {
                throw Failure(.unreachable, "host \(host) went down during the operation")
            }
            return .wait(until: context.now() + .seconds(10))
        }
    }
}
