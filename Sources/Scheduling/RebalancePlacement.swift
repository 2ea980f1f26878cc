internal import Model

/// Where the servers of a fleet are while some are moved, and what filters and weighers ask of that.
struct Placement {
    private(set) var servers: [PlacedServer]
    private var hosts: [HostName]
    private var places: [String: Int] = [:]
    private var members: [ServerGroupID: [HostName: Int]] = [:]
    /// How many servers of each flavor a host has, and how many with which property of an image; empty where no filter and
    /// no weigher asks.
    private var flavors: [HostName: [FlavorID: Int]] = [:]
    private var properties: [HostName: [String: Int]] = [:]
    private let asksFlavors: Bool
    private let asksProperties: Bool

    /// - Parameter scheduler: whose filters and weighers will ask.
    init(_ servers: [PlacedServer], for scheduler: FilterScheduler) {
        self.servers = servers
        hosts = servers.map(\.host)
        asksFlavors = scheduler.filters.contains { $0.name == "TypeAffinityFilter" }
        asksProperties = scheduler.weighers.contains { $0.name == "ImagePropertiesWeigher" && $0.multiplier != 0 }
        for (index, server) in servers.enumerated() {
            places[server.id.rawValue.lowercased()] = index
            count(server, on: server.host, 1)
        }
    }

    /// What placing a server anew asks now, itself counted nowhere.
    func request(of index: Int) -> PlacementRequest {
        let server = servers[index]
        var request = server.request
        request.instances = [server.id]
        request.alternates = 0
        (request.forcedHost, request.forcedNode) = (nil, nil)
        (request.requestedHost, request.requestedNode) = (nil, nil)
        if let id = request.group?.id {
            var others = members[id] ?? [:]
            others[hosts[index], default: 0] -= 1
            request.group?.members = others
        }
        request.sameHosts = found(request.schedulerHints["same_host"])
        request.differentHosts = found(request.schedulerHints["different_host"])
        if asksFlavors, let flavor = request.flavor?.id {
            request.otherFlavorHosts = Set(
                flavors.filter { $0.value.contains { $0.key != flavor && $0.value > 0 } }.map(\.key))
        }
        if asksProperties {
            var counts = properties
            for (name, value) in request.imageProperties ?? [:] {
                counts[hosts[index]]?[PlacementRequest.countKey(name, value)]? -= 1
            }
            request.imagePropertyCounts = counts
        }
        return request
    }

    mutating func move(_ index: Int, to host: HostName) {
        count(servers[index], on: hosts[index], -1)
        hosts[index] = host
        count(servers[index], on: host, 1)
    }

    private mutating func count(_ server: PlacedServer, on host: HostName, _ number: Int) {
        if let group = server.request.group?.id { members[group, default: [:]][host, default: 0] += number }
        if asksFlavors, let flavor = server.request.flavor?.id {
            flavors[host, default: [:]][flavor, default: 0] += number
        }
        guard asksProperties else { return }
        for (name, value) in server.request.imageProperties ?? [:] {
            properties[host, default: [:]][PlacementRequest.countKey(name, value), default: 0] += number
        }
    }

    /// Where the servers of a hint are; `nil` for a hint that was not given.
    private func found(_ hint: [String]?) -> Set<HostName>? {
        guard let hint else { return nil }
        return Set(hint.compactMap { places[$0.lowercased()].map { hosts[$0] } })
    }
}
