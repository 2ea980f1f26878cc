public import Model

/// What a list of instances is to hold. Members that are `nil` or empty restrict nothing.
public struct InstanceQuery: Sendable {
    public enum SortKey: String, Sendable, Hashable, CaseIterable {
        case createdAt = "created_at"
        case updatedAt = "updated_at"
        case name
        case id
        case host
        case vmState = "vm_state"
        case taskState = "task_state"
        /// Whether it is locked.
        case locked
    }
    public enum Deleted: Sendable, Hashable { case excluded, included, only }

    public var projectID: ProjectID?
    public var userID: UserID?
    public var host: HostName?
    public var imageID: ImageID?
    public var flavorID: FlavorID?
    public var reservationID: String?
    public var vmStates: Set<VMState> = []
    public var deleted = Deleted.excluded
    public var changedSince: Timestamp?
    public var changedBefore: Timestamp?
    /// What SQL cannot say (regular expressions, derived states): applied to each row before the limit counts.
    public var matches: (@Sendable (Instance) -> Bool)?
    public var sort: [(key: SortKey, ascending: Bool)] = [(.createdAt, false), (.id, false)]
    /// The last instance of the page before; the list begins behind it.
    public var marker: InstanceID?
    /// At most 1,000 are returned however many are asked for.
    public var limit = 1_000

    public init() {}
}
