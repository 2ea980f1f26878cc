internal import CLibvirt

/// A change in a domain's life.
public struct DomainEvent: Sendable, Hashable {
    public enum Kind: Sendable, Hashable {
        case defined, undefined, started, suspended, resumed, stopped, shutdown, suspendedByGuest, crashed
        /// A number that this version does not know.
        case other(Int32)
    }

    /// What tells a stop from a stop: a guest that shut itself down from one that was destroyed.
    public enum Detail: Sendable, Hashable {
        case added, updated, renamed, fromSnapshot, removed
        case booted, migrated, restored, wokenUp
        case paused, ioError, watchdog, apiError, postCopy, postCopyFailed, unpaused
        case shutdown, destroyed, crashed, saved, failed
        /// The shutdown has finished; by whom is not known.
        case finished
        /// The guest began the shutdown itself.
        case byGuest
        /// The host asked for the shutdown.
        case byHost
        case toMemory, toDisk, panicked, crashLoaded
        /// A number that this version does not know.
        case other(Int32)
    }

    public let uuid: String
    public let name: String
    public let kind: Kind
    public let detail: Detail

    public init(uuid: String, name: String, kind: Kind, detail: Detail) {
        self.uuid = uuid
        self.name = name
        self.kind = kind
        self.detail = detail
    }

    init(uuid: String, name: String, event: Int32, detail: Int32) {
        self.uuid = uuid
        self.name = name
        let (kind, details) = Self.table(event)
        self.kind = kind
        self.detail = details.indices.contains(Int(detail)) ? details[Int(detail)] : .other(detail)
    }

    // The details in the order of libvirt's numbers, which start at 0 for each event.
    private static func table(_ event: Int32) -> (Kind, [Detail]) {
        switch virDomainEventType(rawValue: UInt32(bitPattern: event)) {
        case VIR_DOMAIN_EVENT_DEFINED: (.defined, [.added, .updated, .renamed, .fromSnapshot])
        case VIR_DOMAIN_EVENT_UNDEFINED: (.undefined, [.removed, .renamed])
        case VIR_DOMAIN_EVENT_STARTED: (.started, [.booted, .migrated, .restored, .fromSnapshot, .wokenUp])
        case VIR_DOMAIN_EVENT_SUSPENDED:
            (
                .suspended,
                [
                    .paused, .migrated, .ioError, .watchdog, .restored, .fromSnapshot, .apiError, .postCopy,
                    .postCopyFailed,
                ]
            )
        case VIR_DOMAIN_EVENT_RESUMED:
            (.resumed, [.unpaused, .migrated, .fromSnapshot, .postCopy, .postCopyFailed])
        case VIR_DOMAIN_EVENT_STOPPED:
            (.stopped, [.shutdown, .destroyed, .crashed, .migrated, .saved, .failed, .fromSnapshot])
        case VIR_DOMAIN_EVENT_SHUTDOWN: (.shutdown, [.finished, .byGuest, .byHost])
        case VIR_DOMAIN_EVENT_PMSUSPENDED: (.suspendedByGuest, [.toMemory, .toDisk])
        case VIR_DOMAIN_EVENT_CRASHED: (.crashed, [.panicked, .crashLoaded])
        default: (.other(event), [])
        }
    }
}

/// Why a connection ended.
public enum CloseReason: Sendable, Hashable {
    /// The socket broke.
    case error
    /// The daemon closed it.
    case endOfFile
    /// Keepalive went unanswered.
    case keepAlive
    /// We closed it.
    case client
    /// A call found it broken.
    case callFailed(String)
    /// A number that this version does not know.
    case other(Int32)

    init(number: Int32) {
        switch virConnectCloseReason(rawValue: UInt32(bitPattern: number)) {
        case VIR_CONNECT_CLOSE_REASON_ERROR: self = .error
        case VIR_CONNECT_CLOSE_REASON_EOF: self = .endOfFile
        case VIR_CONNECT_CLOSE_REASON_KEEPALIVE: self = .keepAlive
        case VIR_CONNECT_CLOSE_REASON_CLIENT: self = .client
        default: self = .other(number)
        }
    }
}

/// What came of the request to a guest to let go of a device.
public struct DeviceRemoval: Sendable, Hashable {
    public let uuid: String
    /// libvirt's name of the device: `net0`.
    public let alias: String
    public let isRemoved: Bool

    public init(uuid: String, alias: String, isRemoved: Bool) {
        (self.uuid, self.alias, self.isRemoved) = (uuid, alias, isRemoved)
    }
}

/// What one connection tells by itself.
public enum ConnectionEvent: Sendable, Hashable {
    case lifecycle(DomainEvent)
    /// A guest rebooted inside its process; no STOPPED comes with it.
    case reboot(uuid: String, name: String)
    /// A guest let go of a device, or refused to, that it was asked to let go.
    case deviceRemoval(DeviceRemoval)
    /// A job on a domain has ended: the only word on how.
    case jobEnded(JobEnd)
    /// The connection is of no use any more; told once.
    case closed(CloseReason)
}
