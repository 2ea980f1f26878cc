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
    /// The source looks whether its guest can be carried over while it runs, and lets the destination ask about it.
    /// Nothing is touched.
    case offer
    /// The destination looks whether the guest can run here, makes what it needs, and opens its end to the source.
    case receive(ImageReference, from: MoveSource, LiveRequest)
    /// The source carries its running guest over. It has ended when the guest is on one of the two hosts for sure: without
    /// a failure when it is on the destination, and nowhere else.
    case send(to: MoveSource, LiveRequest)
    /// The destination has the guest for its own, lets it go on where it was running, and closes its end.
    case arrive(ImageReference)
    /// The source removes what it still has of a guest that has arrived elsewhere.
    case leave

    /// Unique; the end of the operation's kind in the agent's journal.
    public var name: String {
        switch self {
        case .reserve: "reserve"
        case .setAside: "set_aside"
        case .takeOver: "take_over"
        case .release: "release"
        case .forget: "forget"
        case .takeBack: "take_back"
        case .offer: "offer"
        case .receive: "receive"
        case .send: "send"
        case .arrive: "arrive"
        case .leave: "leave"
        }
    }

    /// For terabytes, over a slow link.
    public static let carryingLimit = Duration.seconds(48 * 3_600)

    /// How long a host that is up may take.
    public var hostLimit: Duration {
        switch self {
        case .takeOver, .send: Self.carryingLimit
        default: .seconds(6 * 3_600)
        }
    }
}

/// Where a destination finds the disks; and where the source of a live migration finds the destination.
public struct MoveSource: Sendable, Hashable, Codable {
    public var host: HostName
    /// Of that host's agent.
    public var url: String
    /// Opens what this migration needs there to the host that has it, and nothing else. In no record after its use.
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
        /// `active` or `stopped`, and in a live migration `active` or `paused`: how the guest is to be afterwards.
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
