internal import Model
internal import SQL

/// What is told of an instance when a request for it is accepted, and when it has ended: under the names and with the
/// members of Nova's versioned notifications, as far as there is such a thing here.
struct InstanceNotification {
    let instance: Instance
    let action: InstanceActionKind
    let requestID: RequestID
    let userID: UserID
    let projectID: ProjectID
    /// Where a request that has ended was carried out.
    var host: HostName?
    /// Why it failed; `nil` where it has not.
    var failure: String?

    enum Phase: String { case start, end, error }

    init(_ instance: Instance, _ action: InstanceAction) {
        (self.instance, self.action, requestID) = (instance, action.kind, action.requestID)
        (userID, projectID) = (action.userID, action.projectID)
    }

    func append(_ phase: Phase, now: Timestamp, _ connection: SQLConnection) throws {
        guard try NotificationStore.isOn(connection), let name = action.notificationName(phase) else { return }
        try NotificationStore.append(
            "instance.\(name)", payload: "InstanceActionPayload", version: "1.8",
            about: instance.id.rawValue, isError: phase == .error,
            publisher: host.map { "nova-compute:\($0)" } ?? "apus", requestID: requestID, data: data,
            now: now, connection)
    }

    /// What is told of an instance for a period in which it was there, whatever has been asked of it.
    static func appendUsage(
        of instance: Instance, in period: Range<Timestamp>, host: HostName, now: Timestamp, _ connection: SQLConnection
    ) throws {
        var data = members(of: instance)
        data["audit_period"] = [
            "nova_object.name": "AuditPeriodPayload", "nova_object.namespace": "nova", "nova_object.version": "1.0",
            "nova_object.data": [
                "audit_period_beginning": .string(period.lowerBound.iso8601),
                "audit_period_ending": .string(period.upperBound.iso8601),
            ],
        ]
        try NotificationStore.append(
            "instance.exists", payload: "InstanceExistsPayload", version: "2.0", about: instance.id.rawValue,
            publisher: "nova-compute:\(host)", requestID: nil, data: data, now: now, connection)
    }

    private var data: [String: JSON] {
        var data = Self.members(of: instance)
        data["request_id"] = .string(requestID.rawValue)
        data["action_initiator_user"] = .string(userID.rawValue)
        data["action_initiator_project"] = .string(projectID.rawValue)
        data["fault"] =
            failure.map { message in
                [
                    "nova_object.name": "ExceptionPayload", "nova_object.namespace": "nova",
                    "nova_object.version": "1.1", "nova_object.data": ["exception_message": .string(message)],
                ]
            } ?? .null
        return data
    }

    /// What every payload about an instance has.
    private static func members(of instance: Instance) -> [String: JSON] {
        func text(_ value: String?) -> JSON { value.map { .string($0) } ?? .null }
        func time(_ value: Timestamp?) -> JSON { text(value?.iso8601) }
        func count(_ value: Int) -> JSON { .integer(Int64(value)) }
        let flavor = instance.flavor
        return [
            "uuid": .string(instance.id.rawValue), "user_id": .string(instance.userID.rawValue),
            "tenant_id": .string(instance.projectID.rawValue), "display_name": .string(instance.name),
            "display_description": text(instance.description), "host_name": .string(instance.hostname),
            "host": text(instance.host?.rawValue), "node": text(instance.node ?? instance.host?.rawValue),
            "state": .string(instance.vmState.rawValue), "task_state": text(instance.taskState?.rawValue),
            "power_state": .string(instance.powerState.name),
            "image_uuid": .string(instance.imageID.rawValue), "key_name": text(instance.keyName),
            "availability_zone": text(instance.availabilityZone), "reservation_id": .string(instance.reservationID),
            "metadata": .object(instance.metadata.mapValues { .string($0) }),
            "locked": .bool(instance.lock != nil), "locked_reason": text(instance.lock?.reason),
            "progress": count(instance.progress), "created_at": time(instance.createdAt),
            "updated_at": time(instance.updatedAt), "launched_at": time(instance.launchedAt),
            "terminated_at": time(instance.terminatedAt), "deleted_at": time(instance.deletedAt),
            "ip_addresses": .array(
                instance.interfaces.map { nic in
                    [
                        "nova_object.name": "IpPayload", "nova_object.namespace": "nova",
                        "nova_object.version": "1.0",
                        "nova_object.data": [
                            "label": .string(nic.network), "mac": .string(nic.macAddress), "version": 4,
                            "address": text(nic.ipv4Address),
                        ],
                    ]
                }),
            "flavor": [
                "nova_object.name": "FlavorPayload", "nova_object.namespace": "nova", "nova_object.version": "1.4",
                "nova_object.data": [
                    "flavorid": .string(flavor.id.rawValue), "name": .string(flavor.name),
                    "vcpus": count(flavor.vcpus), "memory_mb": count(flavor.memoryMiB),
                    "root_gb": count(flavor.rootGiB), "ephemeral_gb": count(flavor.ephemeralGiB),
                    "swap": count(flavor.swapMiB), "rxtx_factor": .number(flavor.rxtxFactor),
                    "is_public": .bool(flavor.isPublic), "disabled": .bool(flavor.isDisabled),
                    "extra_specs": .object(flavor.extraSpecs.mapValues { .string($0) }),
                ],
            ],
        ]
    }
}

extension InstanceActionKind {
    /// After `instance.`; `nil` for what Nova tells nobody.
    fileprivate func notificationName(_ phase: InstanceNotification.Phase) -> String? {
        guard self == .liveMigration else { return notificationName.map { "\($0).\(phase.rawValue)" } }
        // Nova tells of its parts, and these are where it begins and ends.
        return switch phase {
        case .start: "live_migration_pre.start"
        case .end: "live_migration_post.end"
        case .error: "live_migration_rollback.end"
        }
    }

    private var notificationName: String? {
        switch self {
        case .create, .delete, .reboot, .pause, .unpause, .suspend, .resume, .rescue, .unrescue, .rebuild, .shelve,
            .unshelve, .lock, .unlock, .restore, .evacuate:
            rawValue
        case .start: "power_on"
        case .stop: "power_off"
        case .shelveOffload: "shelve_offload"
        case .createImage, .createBackup: "snapshot"
        case .attachInterface: "interface_attach"
        case .detachInterface: "interface_detach"
        case .triggerCrashDump: "trigger_crash_dump"
        case .resize, .migrate: "resize"
        case .confirmResize: "resize_confirm"
        case .revertResize: "resize_revert"
        case .abortLiveMigration: "live_migration_abort"
        case .forceLiveMigration: "live_migration_force_complete"
        case .changePassword, .resetState, .liveMigration: nil
        }
    }
}
