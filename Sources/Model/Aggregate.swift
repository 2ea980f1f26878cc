/// A set of hosts that share properties: a zone, and whatever the scheduler's filters and weighers read of it.
public struct Aggregate: Sendable, Hashable, Codable {
    /// The metadata key that makes an aggregate a zone.
    public static let zoneKey = "availability_zone"

    public var id: Int64
    public var uuid: String
    public var name: String
    /// Keys and values have 1 to 255 and 0 to 255 characters.
    public var metadata: [String: String]
    /// In the order in which they were added.
    public var hosts: [HostName]
    public var createdAt: Timestamp
    public var updatedAt: Timestamp?

    public init(
        id: Int64, uuid: String, name: String, metadata: [String: String] = [:], hosts: [HostName] = [],
        createdAt: Timestamp, updatedAt: Timestamp? = nil
    ) {
        (self.id, self.uuid, self.name, self.metadata) = (id, uuid, name, metadata)
        (self.hosts, self.createdAt, self.updatedAt) = (hosts, createdAt, updatedAt)
    }

    /// The zone that its hosts are in; `nil` for an aggregate that is none.
    public var availabilityZone: String? { metadata[Self.zoneKey] }
}
