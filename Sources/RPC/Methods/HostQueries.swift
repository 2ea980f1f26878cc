public import Model

/// Who holds what of a host, and what was claimed and released last: from the host itself.
public enum DescribeClaims: RPCMethod {
    public struct Params: Sendable, Hashable, Codable {
        /// How many events may be asked for at once.
        public static let eventLimit = 1_000

        public var host: HostName
        /// How many of the newest events are wanted.
        public var events: Int

        public init(host: HostName, events: Int) { (self.host, self.events) = (host, events) }
    }

    /// What an instance holds.
    public struct Holding: Sendable, Hashable, Codable {
        public var claim: ClaimID
        public var instance: InstanceID
        public var resources: Resources
        public var since: Timestamp
        /// What else it holds, for a person: processors of its own, devices.
        public var remark: String?

        public init(claim: ClaimID, instance: InstanceID, resources: Resources, since: Timestamp, remark: String?) {
            (self.claim, self.instance, self.resources) = (claim, instance, resources)
            (self.since, self.remark) = (since, remark)
        }
    }

    /// A claim, a release, or a move that has become the instance's place.
    public struct Event: Sendable, Hashable, Codable {
        public enum Change: String, Sendable, Hashable, Codable {
            case claimed, released, settled
        }
        public var at: Timestamp
        public var change: Change
        public var claim: ClaimID
        public var instance: InstanceID
        public var resources: Resources

        public init(at: Timestamp, change: Change, claim: ClaimID, instance: InstanceID, resources: Resources) {
            (self.at, self.change, self.claim) = (at, change, claim)
            (self.instance, self.resources) = (instance, resources)
        }
    }

    public struct Result: Sendable, Hashable, Codable {
        public var total: Resources
        public var reserved: Resources
        /// Claims and what is reserved.
        public var used: Resources
        /// How much may be promised in all.
        public var limit: Resources
        /// In the order of the claims.
        public var holdings: [Holding]
        /// The newest first.
        public var events: [Event]

        public init(
            total: Resources, reserved: Resources, used: Resources, limit: Resources, holdings: [Holding],
            events: [Event]
        ) {
            (self.total, self.reserved, self.used, self.limit) = (total, reserved, used, limit)
            (self.holdings, self.events) = (holdings, events)
        }
    }
    public static let name = "compute.describe_claims"
    public static let kind = RPCKind.call
    public static let summary = "Tells who holds what of the host, and the last claims and releases."
    public static let timeout = Duration.seconds(10)
}

/// The same, for the API: from the host that is named.
public enum FetchClaims: RPCMethod {
    public typealias Params = DescribeClaims.Params
    public typealias Result = DescribeClaims.Result
    public static let name = "conductor.fetch_claims"
    public static let kind = RPCKind.call
    public static let summary = "Returns who holds what of a host, from the host."
    public static let timeout = Duration.seconds(15)
}
