internal import CLibvirt

/// What a domain does.
public enum DomainState: Sendable, Hashable, CaseIterable {
    case noState, running, blocked, paused, shuttingDown, shutOff, crashed, suspendedByGuest
    /// A number that this version does not know.
    case unknown

    init(number: Int32) {
        switch virDomainState(rawValue: UInt32(bitPattern: number)) {
        case VIR_DOMAIN_NOSTATE: self = .noState
        case VIR_DOMAIN_RUNNING: self = .running
        case VIR_DOMAIN_BLOCKED: self = .blocked
        case VIR_DOMAIN_PAUSED: self = .paused
        case VIR_DOMAIN_SHUTDOWN: self = .shuttingDown
        case VIR_DOMAIN_SHUTOFF: self = .shutOff
        case VIR_DOMAIN_CRASHED: self = .crashed
        case VIR_DOMAIN_PMSUSPENDED: self = .suspendedByGuest
        default: self = .unknown
        }
    }

    /// Whether the hypervisor has a process for it.
    public var isActive: Bool {
        switch self {
        case .running, .blocked, .paused, .shuttingDown, .suspendedByGuest: true
        case .noState, .shutOff, .crashed, .unknown: false
        }
    }
}

/// Why a domain is in its state; each belongs to the states of libvirt that have it.
public enum StateReason: Sendable, Hashable {
    case unknown
    case booted, migrated, restored, fromSnapshot, unpaused, migrationCancelled, saveCancelled, wokenUp
    case userRequest, migration, save, dump, ioError, watchdog, shuttingDown, snapshot, startingUp
    case postCopy, postCopyFailed
    case shutdown, destroyed, crashed, saved, failed, daemonDecision, panicked
    /// A number that this version does not know.
    case other(Int32)
}

/// A domain's state and the reason for it.
public struct DomainStatus: Sendable, Hashable {
    public let state: DomainState
    public let reason: StateReason

    public init(_ state: DomainState, _ reason: StateReason) {
        self.state = state
        self.reason = reason
    }

    init(state: Int32, reason: Int32) {
        self.state = DomainState(number: state)
        self.reason = Self.reason(reason, of: self.state)
    }

    // In the order of libvirt's numbers, which start at 0 in each enum and are only ever added to.
    private static let running: [StateReason] = [
        .unknown, .booted, .migrated, .restored, .fromSnapshot, .unpaused, .migrationCancelled, .saveCancelled,
        .wokenUp, .crashed, .postCopy, .postCopyFailed,
    ]
    private static let paused: [StateReason] = [
        .unknown, .userRequest, .migration, .save, .dump, .ioError, .watchdog, .fromSnapshot, .shuttingDown, .snapshot,
        .crashed, .startingUp, .postCopy, .postCopyFailed,
    ]
    private static let shuttingDown: [StateReason] = [.unknown, .userRequest]
    private static let shutOff: [StateReason] = [
        .unknown, .shutdown, .destroyed, .crashed, .migrated, .saved, .failed, .fromSnapshot, .daemonDecision,
    ]
    private static let crashed: [StateReason] = [.unknown, .panicked]

    private static func reason(_ number: Int32, of state: DomainState) -> StateReason {
        let known: [StateReason] =
            switch state {
            case .running: running
            case .paused: paused
            case .shuttingDown: shuttingDown
            case .shutOff: shutOff
            case .crashed: crashed
            case .noState, .blocked, .suspendedByGuest, .unknown: [.unknown]
            }
        return known.indices.contains(Int(number)) ? known[Int(number)] : .other(number)
    }
}
