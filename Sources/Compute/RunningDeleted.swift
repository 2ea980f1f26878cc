internal import Model
internal import RPC
internal import SQL
internal import SQLite
internal import Telemetry

/// What is done with a guest whose instance is deleted; the words of `running_deleted_instance_action`.
enum RunningDeletedAction: String, Sendable, Hashable, CaseIterable {
    case noop, log, shutdown, reap
}

/// Looks for guests of ours whose instance the database says is deleted: the delete happened without this host, and the
/// command that should follow was lost.
///
/// The database's word is the only evidence: an instance that it does not know is an orphan, which is told elsewhere and
/// left alone, and a deletion older than what this host was told since does not count. A guest with an operation under
/// way, or that Apus did not make, is never touched.
struct RunningDeleted: Sendable {
    let action: RunningDeletedAction
    /// How long the instance must have been deleted.
    let after: Duration
    let host: HostName
    let driver: any VirtDriver
    let journal: Journal
    let dispatcher: Dispatcher
    let client: RPCClient
    /// How long a guest without record may take to shut down.
    let grace: Duration

    private let log = Logger("agent.guests")
    private let count = Metrics.shared.gauge(
        "agent_running_deleted_guests", help: "Guests whose instance the database says is deleted.")

    init(
        action: RunningDeletedAction, after: Duration, host: HostName, driver: any VirtDriver, journal: Journal,
        dispatcher: Dispatcher, client: RPCClient, grace: Duration
    ) {
        (self.action, self.after, self.host, self.driver) = (action, after, host, driver)
        (self.journal, self.dispatcher, self.client, self.grace) = (journal, dispatcher, client, grace)
    }

    /// One look. Throws when the hypervisor or every conductor is out of reach; nothing has been done then.
    func run() async throws {
        guard action != .noop else { return count.set(0) }
        let found = try await find()
        count.set(Double(found.count))
        for (guest, standing) in found {
            do {
                try await act(on: guest, standing.fence)
            } catch {
                log.warning(
                    "a guest whose instance is deleted cannot be dealt with",
                    ["instance": guest.id, "error": LoggedError(error)])
            }
        }
    }

    private func find() async throws -> [(GuestObservation, DescribeInstances.Standing)] {
        let ours = try await driver.guests().filter(\.isOurs)
        let (open, fences) = try await journal.database.read { connection in
            let fences = try ours.map { ($0.id, try connection.fence($0.id)) }
            return (
                Set(try connection.openOperations().map(\.instance)),
                Dictionary(fences, uniquingKeysWith: { first, _ in first })
            )
        }
        let idle = ours.filter { !open.contains($0.id) }
        var standings: [InstanceID: DescribeInstances.Standing] = [:]
        for start in stride(from: 0, to: idle.count, by: DescribeInstances.Params.limit) {
            let page = idle[start...].prefix(DescribeInstances.Params.limit).map(\.id)
            let answer = try await client.call(DescribeInstances.self, .init(host: host, instances: page))
            for standing in answer.instances { standings[standing.instance] = standing }
        }
        let moment = journal.now()
        return idle.compactMap { guest in
            guard let standing = standings[guest.id], let deletedAt = standing.deletedAt,
                moment.since(deletedAt) >= after
            else { return nil }
            if let known = fences[guest.id] ?? nil, standing.fence.generation < known.generation { return nil }
            return (guest, standing)
        }
    }

    private func act(on guest: GuestObservation, _ fence: Fence) async throws {
        let fields: KeyValuePairs<String, any LogValue> = ["instance": guest.id, "name": guest.name]
        switch action {
        case .noop: return
        case .log: log.warning("a guest is here whose instance is deleted", fields)
        case .shutdown:
            guard ![.shutdown, .crashed].contains(guest.powerState) else { return }
            log.notice("a guest whose instance is deleted is shut down", fields)
            if let record = try await journal.guest(guest.id) {
                _ = try await dispatcher.stop(record, deletedAt: fence)
            } else {
                try await driver.powerOff(guest.id, grace: grace)
            }
        case .reap:
            guard try await dispatcher.reap(guest.id, deletedAt: fence) else { return }
            log.notice("a guest whose instance is deleted is removed", fields)
        }
    }
}
