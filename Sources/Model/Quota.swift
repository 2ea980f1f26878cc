/// What a quota bounds, by Nova's names.
public enum QuotaResource: String, Sendable, Hashable, CaseIterable, Codable {
    case instances
    case cores
    /// In MiB.
    case ram
    /// Of one server.
    case metadataItems = "metadata_items"
    /// Of one server; so are the next two, each of one file.
    case injectedFiles = "injected_files"
    case injectedFileContentBytes = "injected_file_content_bytes"
    case injectedFilePathBytes = "injected_file_path_bytes"
    /// Of one user.
    case keyPairs = "key_pairs"
    case serverGroups = "server_groups"
    /// Of one group and user.
    case serverGroupMembers = "server_group_members"
    // A network service's: kept so that clients below 2.36 read what they have written. Nothing counts against them.
    case fixedIPs = "fixed_ips"
    case floatingIPs = "floating_ips"
    case securityGroups = "security_groups"
    case securityGroupRules = "security_group_rules"
}

/// A limit for each resource.
public struct QuotaLimits: Sendable, Hashable {
    /// The limit that is none.
    public static let unlimited = -1

    private var limits: [QuotaResource: Int]

    /// The defaults are Nova's.
    public init(
        instances: Int = 10, cores: Int = 20, memoryMiB: Int = 51_200, metadataItems: Int = 128,
        injectedFiles: Int = 5, injectedFileContentBytes: Int = 10_240, injectedFilePathBytes: Int = 255,
        keyPairs: Int = 100, serverGroups: Int = 10, serverGroupMembers: Int = 10
    ) {
        limits = [
            .instances: instances, .cores: cores, .ram: memoryMiB, .metadataItems: metadataItems,
            .injectedFiles: injectedFiles, .injectedFileContentBytes: injectedFileContentBytes,
            .injectedFilePathBytes: injectedFilePathBytes, .keyPairs: keyPairs, .serverGroups: serverGroups,
            .serverGroupMembers: serverGroupMembers,
        ]
    }

    /// `unlimited`, or how much there may be at most.
    public subscript(_ resource: QuotaResource) -> Int {
        get { limits[resource] ?? Self.unlimited }
        set { limits[resource] = newValue }
    }

    /// These limits, those of `overrides` in place of their own.
    public func overridden(by overrides: [QuotaResource: Int]) -> QuotaLimits {
        var result = self
        result.limits.merge(overrides) { $1 }
        return result
    }

    /// For each resource the stricter of the two limits.
    public func stricter(_ other: QuotaLimits) -> QuotaLimits {
        var result = self
        for resource in QuotaResource.allCases {
            let (own, others) = (self[resource], other[resource])
            result[resource] = own < 0 ? others : others < 0 ? own : min(own, others)
        }
        return result
    }
}
