internal import Model
internal import SQL

/// What is told of a service when it is first heard of, changed by an administrator, or forgotten; not of each heartbeat.
struct ServiceNotification {
    let service: ServiceRecord
    let requestID: RequestID?

    enum Change: String { case create, update, delete }

    func append(_ change: Change, now: Timestamp, _ connection: SQLConnection) throws {
        guard try NotificationStore.isOn(connection) else { return }
        try NotificationStore.append(
            "service.\(change.rawValue)", payload: "ServiceStatusPayload", version: "1.1", about: service.uuid,
            publisher: "\(service.binary):\(service.host)", requestID: requestID, data: data, now: now, connection)
    }

    private var data: [String: JSON] {
        let topic = service.binary.hasPrefix("nova-") ? String(service.binary.dropFirst(5)) : service.binary
        return [
            "uuid": .string(service.uuid), "host": .string(service.host.rawValue), "binary": .string(service.binary),
            "topic": .string(topic), "version": .integer(Int64(service.version)),
            "report_count": .integer(Int64(service.reportCount)), "disabled": .bool(service.isDisabled),
            "disabled_reason": service.disabledReason.map { .string($0) } ?? .null,
            "forced_down": .bool(service.isForcedDown),
            "last_seen_up": service.lastSeenAt.map { .string($0.iso8601) } ?? .null, "availability_zone": .null,
        ]
    }
}
