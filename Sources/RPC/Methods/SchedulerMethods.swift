public import Model

/// Pick hosts for instances that are all alike.
public enum SelectDestinations: RPCMethod {
    public struct Params: Sendable, Hashable, Codable {
        public var request: PlacementRequest

        public init(request: PlacementRequest) { self.request = request }
    }
    public struct Result: Sendable, Hashable, Codable {
        /// One list an instance: the chosen host first, then the alternates. All or nothing.
        public var selections: [[HostName]]
        /// Set, and `selections` empty, when no host fitted: the reasons with their counts.
        public var refusal: PlacementRefusal?

        public init(selections: [[HostName]], refusal: PlacementRefusal?) {
            (self.selections, self.refusal) = (selections, refusal)
        }
    }
    public static let name = "scheduler.select_destinations"
    public static let kind = RPCKind.call
    public static let summary = "Chooses hosts for instances, with alternates, or says why none fits."
}

/// May an instance be made afresh on the host that it is on, from another image?
public enum CheckRebuild: RPCMethod {
    public struct Params: Sendable, Hashable, Codable {
        /// With the new image.
        public var request: PlacementRequest
        public var host: HostName

        public init(request: PlacementRequest, host: HostName) { (self.request, self.host) = (request, host) }
    }
    public struct Result: Sendable, Hashable, Codable {
        /// Why not; `nil` where it may.
        public var refusal: PlacementRefusal?

        public init(refusal: PlacementRefusal?) { self.refusal = refusal }
    }
    public static let name = "scheduler.check_rebuild"
    public static let kind = RPCKind.call
    public static let summary = "Says whether a host may have another image for an instance that it has; takes nothing."
}
