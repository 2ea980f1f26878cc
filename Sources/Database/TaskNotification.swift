internal import Model
internal import SQL

/// What is told of a conductor's task that has found no host, beside what is told of its instance.
struct TaskNotification {
    let instance: Instance
    let requestID: RequestID
    let reason: String

    /// Nothing for a kind of action that Nova tells nobody of.
    func append(_ action: InstanceActionKind, now: Timestamp, _ connection: SQLConnection) throws {
        guard try NotificationStore.isOn(connection), let name = Self.names[action] else { return }
        try NotificationStore.append(
            "compute_task.\(name).error", payload: "ComputeTaskPayload", version: "1.0", about: instance.id.rawValue,
            isError: true, publisher: "nova-conductor", requestID: requestID, data: data, now: now, connection)
    }

    private static let names: [InstanceActionKind: String] = [.create: "build_instances", .rebuild: "rebuild_server"]

    private var data: [String: JSON] {
        [
            "instance_uuid": .string(instance.id.rawValue), "request_spec": .null,
            "state": .string(instance.vmState.rawValue),
            "reason": [
                "nova_object.name": "ExceptionPayload", "nova_object.namespace": "nova",
                "nova_object.version": "1.1", "nova_object.data": ["exception_message": .string(reason)],
            ],
        ]
    }
}
