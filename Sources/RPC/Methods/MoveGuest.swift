public import Model

/// What a host is to do in a move of an instance.
public enum MoveOrder: Sendable, Hashable, Codable {
    /// The destination promises the room that the instance takes after the move.
    case reserve(ImageReference)
    /// The source shuts the guest down and keeps its disks where nothing starts from them, for the destination to fetch.
    case setAside
    /// The destination takes the disks over, and starts the guest unless it was off.
    case takeOver(ImageReference, from: MoveSource)
    /// The destination gives back what it has promised and made, and nothing that was there before.
    case release
    /// The source removes what it has kept, and gives its room back.
    case forget
    /// The source has its guest again as it was.
    case takeBack

    /// Unique; the end of the operation's kind in the agent's journal.
    public var name: String {
        switch self {
        case .reserve: "reserve"
        case .setAside: "set_aside"
        case .takeOver: "take_over"
        case .release: "release"
        case .forget: "forget"
        case .takeBack: "take_back"
        }
    }

    /// How long a host that is up may take.
    public var hostLimit: Duration {
        switch self {
        // Terabytes, over a slow link.
        case .takeOver: .seconds(48 * 3_600)
        default: .seconds(6 * 3_600)
        }
    }
}

/// Where a destination finds the disks.
public struct MoveSource: Sendable, Hashable, Codable {
    public var host: HostName
    /// Of the source's agent.
    public var url: String
    /// Opens this migration's disks to this destination, and nothing else. In no record after the disks are there.
    public var ticket: String

    public init(host: HostName, url: String, ticket: String) {
        (self.host, self.url, self.ticket) = (host, url, ticket)
    }
}

/// Do a host's part in a move. The outcome follows by `conductor.report_operation`.
public enum MoveGuest: RPCMethod {
    public struct Params: Sendable, Hashable, Codable {
        public var header: CommandHeader
        public var migration: MigrationID
        public var order: MoveOrder
        /// With the flavor that it has on this host when the order is carried out.
        public var instance: Instance
        /// `active` or `stopped`: how the guest is to be afterwards.
        public var vmState: VMState
        /// Whether source and destination are the same host.
        public var isSameHost: Bool

        public init(
            header: CommandHeader, migration: MigrationID, order: MoveOrder, instance: Instance, vmState: VMState,
            isSameHost: Bool
        ) {
            (self.header, self.migration, self.order) = (header, migration, order)
            (self.instance, self.vmState, self.isSameHost) = (instance, vmState, isSameHost)
        }
    }
    public typealias Result = RPCConfirmation
    public static let name = "compute.move_guest"
    public static let kind = RPCKind.cast
    public static let summary = "Does a host's part in the move of an instance to another host or size."
}
