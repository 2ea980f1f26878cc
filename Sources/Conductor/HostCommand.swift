internal import Database
internal import Model
internal import RPC
internal import Tasks
internal import Telemetry

/// What became of a command to a host, as far as is known.
enum CommandProgress {
    /// The host has recorded it and has not reported its end.
    case underWay
    case ended(ReportOperation.Params)
    /// Not known to have arrived: the host could not be reached, or its answer was lost.
    case undelivered(Failure)
    /// The host answered that it will not do it.
    case refused(Failure)
}

/// Sends a task's command to a host once an epoch, and looks for the report of its end.
struct HostCommand: Sendable {
    let agents: AgentDirectory
    let reports: OperationReportStore

    /// One look, and the sending if this epoch of the task has not sent yet.
    func progress<M: RPCMethod>(
        _ method: M.Type, to host: HostName, instance: InstanceID, dispatchedEpoch: inout Int64?,
        _ context: StepContext, params: (CommandHeader) -> M.Params
    ) async throws -> CommandProgress {
        if let report = try await reports.find(task: context.row.id, host: host) { return .ended(report) }
        if dispatchedEpoch == context.row.epoch { return .underWay }
        let header = CommandHeader(task: context.row.id, instance: instance, fence: context.row.fence)
        do {
            let client = try await agents.client(for: host)
            _ = try await client.call(
                method, params(header), idempotencyKey: "\(context.row.id)/\(context.row.epoch)",
                timeout: .seconds(20))
        } catch let failure as Failure {
            switch failure.kind {
            case .unreachable, .timeout, .unauthenticated: return .undelivered(failure)
            default: return .refused(failure)
            }
        }
        dispatchedEpoch = context.row.epoch
        return .underWay
    }
}
