public import Model

/// Passes hosts on which none of the instances of the hint `different_host` is.
public struct DifferentHostFilter: HostFilter {
    public let name = "DifferentHostFilter"
    public let runsOncePerRequest = true

    public init() {}

    public func isNeutral(for request: borrowing PlacementRequest) -> Bool {
        request.differentHosts == nil
    }

    public func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        request.differentHosts?.contains(host.name) == true
            ? Rejection(reason: "with a server that is to be elsewhere (different_host)") : nil
    }
}

/// Passes hosts on which at least one of the instances of the hint `same_host` is.
public struct SameHostFilter: HostFilter {
    public let name = "SameHostFilter"
    public let runsOncePerRequest = true

    public init() {}

    public func isNeutral(for request: borrowing PlacementRequest) -> Bool {
        request.sameHosts == nil
    }

    public func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        request.sameHosts?.contains(host.name) == false
            ? Rejection(reason: "without the server that is to be near (same_host)") : nil
    }
}

/// Passes hosts whose address is in the network of the hints `build_near_host_ip` and `cidr` (`/24`).
public struct SimpleCIDRAffinityFilter: HostFilter {
    public let name = "SimpleCIDRAffinityFilter"
    public let runsOncePerRequest = true

    public init() {}

    public func isNeutral(for request: borrowing PlacementRequest) -> Bool {
        request.schedulerHints["build_near_host_ip"]?.first == nil
    }

    public func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        guard let near = request.schedulerHints["build_near_host_ip"]?.first else { return nil }
        let length = request.schedulerHints["cidr"]?.first ?? "/24"
        guard let network = IPAddress(near), let prefix = Int(length.hasPrefix("/") ? length.dropFirst() : length[...]),
            let own = IPAddress(host.address), own.bytes.count == network.bytes.count,
            (0...network.bytes.count * 8).contains(prefix)
        else { return Rejection(reason: "without an address to compare with \(near)\(length)") }
        return own.sharesPrefix(prefix, with: network) ? nil : Rejection(reason: "outside the network \(near)\(length)")
    }
}

/// Passes hosts that have no instance of another flavor.
public struct TypeAffinityFilter: HostFilter {
    public let name = "TypeAffinityFilter"

    public init() {}

    public func isNeutral(for request: borrowing PlacementRequest) -> Bool {
        request.otherFlavorHosts?.isEmpty ?? true
    }

    public func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        request.otherFlavorHosts?.contains(host.name) == true
            ? Rejection(reason: "with servers of another flavor") : nil
    }
}

/// Passes hosts with fewer members of the group than one host may have.
public struct ServerGroupAntiAffinityFilter: HostFilter {
    public let name = "ServerGroupAntiAffinityFilter"

    public init() {}

    public func isNeutral(for request: borrowing PlacementRequest) -> Bool {
        request.group?.policy != .antiAffinity
    }

    public func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        guard let group = request.group, group.policy == .antiAffinity else { return nil }
        guard group.members[host.name, default: 0] >= max(1, group.maxServersPerHost) else { return nil }
        return Rejection(reason: "with as many servers of the anti-affinity group as one may have")
    }
}

/// Passes the host that the group's members are on; every host while there are none.
public struct ServerGroupAffinityFilter: HostFilter {
    public let name = "ServerGroupAffinityFilter"

    public init() {}

    public func isNeutral(for request: borrowing PlacementRequest) -> Bool {
        request.group?.policy != .affinity
    }

    public func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        guard let group = request.group, group.policy == .affinity, group.members.contains(where: { $0.value > 0 })
        else { return nil }
        return group.members[host.name, default: 0] > 0
            ? nil : Rejection(reason: "without the servers of the affinity group")
    }
}

/// Keeps certain hosts for certain images.
public struct IsolatedHostsFilter: HostFilter {
    public let name = "IsolatedHostsFilter"
    public let runsOncePerRequest = true
    public let runsOnRebuild = true
    private let images: Set<String>
    private let hosts: Set<HostName>
    private let isRestricting: Bool

    /// - Parameters: `[filter_scheduler] isolated_images`, `isolated_hosts`, `restrict_isolated_hosts_to_isolated_images`.
    public init(images: Set<String>, hosts: Set<HostName>, isRestricting: Bool) {
        (self.images, self.hosts, self.isRestricting) = (images, hosts, isRestricting)
    }

    public func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        let isHostIsolated = hosts.contains(host.name)
        guard !images.isEmpty else {
            return isRestricting && isHostIsolated ? Rejection(reason: "kept for isolated images") : nil
        }
        let isImageIsolated = request.imageID.map { images.contains($0.rawValue) } ?? false
        if isImageIsolated, !isHostIsolated { return Rejection(reason: "not for isolated images") }
        if isRestricting, isHostIsolated, !isImageIsolated { return Rejection(reason: "kept for isolated images") }
        return nil
    }
}
