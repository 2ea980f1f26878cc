public import Model

/// What the database knows and any scheduler needs for a request: where its group's members are, and where the instances
/// of its hints are.
public struct PlacementFacts: Sendable {
    private let database: ControlDatabase

    public init(database: ControlDatabase) { self.database = database }

    public func complete(_ asked: PlacementRequest) async throws -> PlacementRequest {
        var request = asked
        if let first = request.instances.first, let placed = try await database.serverGroups.placed(of: first) {
            var group = PlacementRequest.Group(
                id: placed.group.id, policy: placed.group.policy, maxServersPerHost: placed.group.maxServersPerHost ?? 1
            )
            for (instance, host) in placed.hosts where !request.instances.contains(instance) {
                group.members[host, default: 0] += 1
            }
            request.group = group
            request.unplacedMembers = placed.unplaced
        }
        request.sameHosts = try await hosts(of: request.schedulerHints["same_host"])
        request.differentHosts = try await hosts(of: request.schedulerHints["different_host"])
        return request
    }

    /// Where these instances are; `nil` for a hint that was not given.
    private func hosts(of hint: [String]?) async throws -> Set<HostName>? {
        guard let hint else { return nil }
        var hosts: Set<HostName> = []
        for id in hint {
            if let host = try await database.instances.find(InstanceID(id.lowercased()))?.host { hosts.insert(host) }
        }
        return hosts
    }
}
