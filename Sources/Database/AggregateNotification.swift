internal import Model
internal import SQL

/// What is told of an aggregate before and after a change, under Nova's names and with its members.
struct AggregateNotification {
    let aggregate: Aggregate
    let requestID: RequestID?

    enum Change: String {
        case create, delete
        case addHost = "add_host"
        case removeHost = "remove_host"
        case updateProperties = "update_prop"
        case updateMetadata = "update_metadata"
    }

    enum Phase: String { case start, end }

    func append(_ change: Change, _ phase: Phase, now: Timestamp, _ connection: SQLConnection) throws {
        guard try NotificationStore.isOn(connection) else { return }
        try NotificationStore.append(
            "aggregate.\(change.rawValue).\(phase.rawValue)", payload: "AggregatePayload", version: "1.1",
            about: aggregate.uuid, publisher: "apus", requestID: requestID, data: data, now: now, connection)
    }

    private var data: [String: JSON] {
        [
            "id": .integer(aggregate.id), "uuid": .string(aggregate.uuid), "name": .string(aggregate.name),
            "hosts": .array(aggregate.hosts.map { .string($0.rawValue) }),
            "metadata": .object(aggregate.metadata.mapValues { .string($0) }),
        ]
    }
}
