/// What the scheduler is asked: where could these instances, all alike, run?
public struct PlacementRequest: Sendable, Hashable, Codable {
    public var instances: [InstanceID]
    public var resources: Resources
    public var projectID: ProjectID
    public var availabilityZone: String?
    public var ignoredHosts: Set<HostName>
    public var schedulerHints: [String: [String]]
    /// How many further hosts to name for each instance.
    public var alternates: Int

    public init(
        instances: [InstanceID], resources: Resources, projectID: ProjectID, availabilityZone: String? = nil,
        ignoredHosts: Set<HostName> = [], schedulerHints: [String: [String]] = [:], alternates: Int
    ) {
        (self.instances, self.resources, self.projectID) = (instances, resources, projectID)
        (self.availabilityZone, self.ignoredHosts) = (availabilityZone, ignoredHosts)
        (self.schedulerHints, self.alternates) = (schedulerHints, alternates)
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
