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
    ///
    /// - Parameter part: which of several commands of the task to this host; `nil` for a task that has one for each host.
    func progress<M: RPCMethod>(
        _ method: M.Type, to host: HostName, instance: InstanceID, part: String? = nil,
        dispatchedEpoch: inout Int64?, _ context: StepContext, params: (CommandHeader) -> M.Params
    ) async throws -> CommandProgress {
        let id = part.map { context.row.id.part($0) } ?? context.row.id
        if var report = try await reports.find(task: id, host: host) {
            // The host has tried as often as it was worth; another attempt would only read the same report again.
            report.failure?.isRetriable = false
            return .ended(report)
        }
        if dispatchedEpoch == context.row.epoch { return .underWay }
        let header = CommandHeader(task: id, instance: instance, fence: context.row.fence)
        do {
            _ = try await agents.call(
                method, params(header), on: host, idempotencyKey: "\(id)/\(context.row.epoch)",
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

    /// Asks the host to cancel what the task has it do. `false`: it was not reached, or another moment may be better.
    ///
    /// - Parameter part: as of `progress`.
    func cancel(
        on host: HostName, instance: InstanceID, part: String? = nil, _ context: StepContext
    ) async throws -> Bool {
        let id = part.map { context.row.id.part($0) } ?? context.row.id
        let header = CommandHeader(task: id, instance: instance, fence: context.row.fence)
        let log = Logger("conductor")
        do {
            _ = try await agents.call(CancelOperation.self, .init(header: header), on: host)
            return true
        } catch let failure as Failure {
            switch failure.kind {
            case .unreachable, .timeout, .unauthenticated: return false
            default:
                log.notice(
                    "a host does not cancel a command", ["task": header.task, "host": host, "failure": failure])
                return !failure.isRetriable
            }
        }
    }
}
