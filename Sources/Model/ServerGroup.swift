/// Servers that are to run together, or apart.
public struct ServerGroup: Sendable, Hashable, Codable {
    public enum Policy: String, Sendable, Hashable, Codable, CaseIterable {
        /// All on one host.
        case affinity
        /// No more than `maxServersPerHost` on one host.
        case antiAffinity = "anti-affinity"
        /// On one host where there is room.
        case softAffinity = "soft-affinity"
        /// On different hosts as far as there are enough.
        case softAntiAffinity = "soft-anti-affinity"
    }

    public var id: ServerGroupID
    public var projectID: ProjectID
    public var userID: UserID
    public var name: String
    public var policy: Policy
    /// Of anti-affinity (rule `max_server_per_host`); `nil`: 1.
    public var maxServersPerHost: Int?
    /// The servers that are not deleted, in the order in which they came.
    public var members: [InstanceID]
    public var createdAt: Timestamp

    public init(
        id: ServerGroupID, projectID: ProjectID, userID: UserID, name: String, policy: Policy,
        maxServersPerHost: Int? = nil, members: [InstanceID] = [], createdAt: Timestamp
    ) {
        (self.id, self.projectID, self.userID, self.name) = (id, projectID, userID, name)
        (self.policy, self.maxServersPerHost) = (policy, maxServersPerHost)
        (self.members, self.createdAt) = (members, createdAt)
    }
}
