/// What the scheduler is asked: where could these instances, all alike, run?
public struct PlacementRequest: Sendable, Hashable, Codable {
    /// A server group and what is known of where its members are.
    public struct Group: Sendable, Hashable, Codable {
        public var id: ServerGroupID
        public var policy: ServerGroup.Policy
        /// Of anti-affinity: how many may be on one host.
        public var maxServersPerHost: Int
        /// How many other members each host has.
        public var members: [HostName: Int]

        public init(
            id: ServerGroupID, policy: ServerGroup.Policy, maxServersPerHost: Int = 1, members: [HostName: Int] = [:]
        ) {
            (self.id, self.policy, self.maxServersPerHost) = (id, policy, maxServersPerHost)
            self.members = members
        }
    }

    public var instances: [InstanceID]
    public var resources: Resources
    public var projectID: ProjectID
    public var availabilityZone: String?
    public var ignoredHosts: Set<HostName>
    public var schedulerHints: [String: [String]]
    /// How many further hosts to name for each instance.
    public var alternates: Int
    /// `nil` from a conductor that does not tell; filters that read it let every host pass then.
    public var flavor: Flavor?
    /// Empty for a server that boots from a volume.
    public var imageID: ImageID?
    public var imageProperties: [String: String]?
    public var group: Group?
    /// The host, or the hypervisor, that an administrator has chosen (`zone:host:node`): no filter is asked then.
    public var forcedHost: HostName?
    public var forcedNode: String?
    /// The only host that comes into question, if the filters let it pass (`host`, `hypervisor_hostname` from 2.74).
    public var requestedHost: HostName?
    public var requestedNode: String?
    /// Where it has been tried.
    public var triedHosts: Set<HostName>?
    /// Where the instances of the hints `same_host` and `different_host` are; filled in by the scheduler's service.
    public var sameHosts: Set<HostName>?
    public var differentHosts: Set<HostName>?
    /// Members of the group that are being built and have no host yet.
    public var unplacedMembers: Set<InstanceID>?
    /// Hosts with an instance of another flavor, and how many instances of each host have which image properties; filled
    /// in by the scheduler's service where a filter or weigher reads them.
    public var otherFlavorHosts: Set<HostName>?
    public var imagePropertyCounts: [HostName: [String: Int]]?

    public init(
        instances: [InstanceID], resources: Resources, projectID: ProjectID, availabilityZone: String? = nil,
        ignoredHosts: Set<HostName> = [], schedulerHints: [String: [String]] = [:], alternates: Int
    ) {
        (self.instances, self.resources, self.projectID) = (instances, resources, projectID)
        (self.availabilityZone, self.ignoredHosts) = (availabilityZone, ignoredHosts)
        (self.schedulerHints, self.alternates) = (schedulerHints, alternates)
    }
}

extension PlacementRequest {
    /// What placing `instance` asks for, by its record alone.
    public init(of instance: Instance, alternates: Int) {
        self.init(
            instances: [instance.id], resources: instance.resources, projectID: instance.projectID,
            availabilityZone: instance.availabilityZone, schedulerHints: instance.schedulerHints,
            alternates: alternates)
        (flavor, imageID, imageProperties) = (instance.flavor, instance.imageID, instance.imageProperties ?? [:])
        guard let wanted = instance.destination else { return }
        if wanted.isForced {
            (forcedHost, forcedNode) = (wanted.host, wanted.node)
        } else {
            (requestedHost, requestedNode) = (wanted.host, wanted.node)
        }
    }
}

/// Why no host fitted: for each reason how many hosts it refused, and how near the nearest was.
public struct PlacementRefusal: Sendable, Hashable, Codable {
    public struct Reason: Sendable, Hashable, Codable {
        /// The filter that refused: `ComputeFilter`, `CoreFilter`, `RamFilter`, `DiskFilter` …
        public var filter: String
        /// "short of memory", "disabled", "down".
        public var reason: String
        public var hosts: Int
        /// "2048 MiB" short at the nearest host; `nil` where the reason has no amount.
        public var nearestMiss: String?

        public init(filter: String, reason: String, hosts: Int, nearestMiss: String?) {
            (self.filter, self.reason, self.hosts, self.nearestMiss) = (filter, reason, hosts, nearestMiss)
        }
    }
    /// How many hosts were looked at.
    public var hostsConsidered: Int
    public var reasons: [Reason]

    public init(hostsConsidered: Int, reasons: [Reason]) {
        (self.hostsConsidered, self.reasons) = (hostsConsidered, reasons)
    }

    /// A line for each reason: `RamFilter: 2 hosts short of memory, nearest by 2048 MiB`.
    public var details: String {
        reasons.map { reason in
            "\(reason.filter): \(reason.hosts) host\(reason.hosts == 1 ? "" : "s") \(reason.reason)"
                + (reason.nearestMiss.map { ", nearest by \($0)" } ?? "")
        }.joined(separator: "\n")
    }

    /// `No valid host was found. Of 3 hosts: 2 short of memory (nearest by 2048 MiB), 1 disabled.`
    public var message: String {
        guard hostsConsidered > 0 else { return "No valid host was found. No compute host has reported yet." }
        let parts = reasons.map { reason in
            "\(reason.hosts) \(reason.reason)" + (reason.nearestMiss.map { " (nearest by \($0))" } ?? "")
        }
        return "No valid host was found. Of \(hostsConsidered) host\(hostsConsidered == 1 ? "" : "s"): "
            + parts.joined(separator: ", ") + "."
    }
}
