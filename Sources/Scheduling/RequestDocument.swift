public import Model

extension PlacementRequest {
    /// A request as a file has it: `REQUEST.json`. All but what it asks for may be left out.
    ///
    /// Throws where a member is none, is of another type, or neither `flavor` nor `resources` says what is asked for.
    public init(document json: JSON, at place: String = "") throws(DocumentError) {
        var reader = try DocumentReader(json, place)
        let flavor = try Flavor(&reader)
        guard let resources = try Resources(&reader, "resources") ?? flavor.map(Resources.init) else {
            throw reader.missing("flavor")
        }
        var instances = (try reader.texts("instances") ?? []).map { InstanceID($0) }
        let count = try reader.whole("count", in: 1...1_000) ?? max(1, instances.count)
        guard instances.count <= 1_000 else { throw DocumentError(reader.name("instances"), "1 to 1000 are wanted") }
        while instances.count < count { instances.append(InstanceID("instance-\(instances.count + 1)")) }
        self.init(
            instances: instances, resources: resources, projectID: ProjectID(try reader.text("project_id") ?? ""),
            availabilityZone: try reader.text("availability_zone"),
            ignoredHosts: Set((try reader.texts("ignored_hosts") ?? []).map { HostName($0) }),
            schedulerHints: try reader.textLists("scheduler_hints") ?? [:],
            alternates: try reader.whole("alternates", in: 0...1_000) ?? 2)
        self.flavor = flavor
        imageID = try reader.text("image_id").map { ImageID($0) }
        imageProperties = try reader.textMap("image_properties") ?? [:]
        forcedHost = try reader.text("forced_host").map { HostName($0) }
        forcedNode = try reader.text("forced_node")
        requestedHost = try reader.text("requested_host").map { HostName($0) }
        requestedNode = try reader.text("requested_node")
        triedHosts = try Self.hosts(&reader, "tried_hosts")
        sameHosts = try Self.hosts(&reader, "same_hosts")
        differentHosts = try Self.hosts(&reader, "different_hosts")
        otherFlavorHosts = try Self.hosts(&reader, "other_flavor_hosts")
        if var given = try reader.object("group") { group = try Group(&given) }
        if var counts = try reader.object("image_property_counts") {
            var found: [HostName: [String: Int]] = [:]
            for host in counts.names { found[HostName(host)] = try counts.wholeMap(host) }
            setImagePropertyCounts(found)
        }
        try reader.finish()
    }

    private static func hosts(
        _ reader: inout DocumentReader, _ member: String
    ) throws(DocumentError) -> Set<HostName>? {
        try reader.texts(member).map { Set($0.map { HostName($0) }) }
    }
}

extension PlacementRequest.Group {
    fileprivate init(_ reader: inout DocumentReader) throws(DocumentError) {
        let policies = ServerGroup.Policy.allCases.map(\.rawValue).joined(separator: ", ")
        guard let policy = try reader.text("policy").flatMap(ServerGroup.Policy.init(rawValue:)) else {
            throw DocumentError(reader.name("policy"), "one of \(policies) is wanted")
        }
        let members = try reader.wholeMap("members") ?? [:]
        self.init(
            id: ServerGroupID(try reader.text("id") ?? "group"), policy: policy,
            maxServersPerHost: try reader.whole("max_servers_per_host", in: 1...1_000_000) ?? 1,
            members: Dictionary(members.map { (HostName($0.key), $0.value) }, uniquingKeysWith: { $1 }))
        try reader.finish()
    }
}

extension Flavor {
    fileprivate init?(_ reader: inout DocumentReader) throws(DocumentError) {
        guard var given = try reader.object("flavor") else { return nil }
        let amounts = 0...1_000_000_000
        let name = try given.text("name") ?? "flavor"
        self.init(
            id: FlavorID(try given.text("id") ?? name), name: name, vcpus: try given.whole("vcpus", in: amounts) ?? 1,
            memoryMiB: try given.whole("memory_mib", in: amounts) ?? 512,
            rootGiB: try given.whole("root_gib", in: amounts) ?? 0,
            ephemeralGiB: try given.whole("ephemeral_gib", in: amounts) ?? 0,
            swapMiB: try given.whole("swap_mib", in: amounts) ?? 0,
            extraSpecs: try given.textMap("extra_specs") ?? [:])
        try given.finish()
    }
}

// MARK: - Writing

private func whole(_ value: Int) -> JSON { .integer(Int64(value)) }
private func texts(_ values: some Sequence<String>) -> JSON { .array(values.map { .string($0) }) }
private func names(_ hosts: Set<HostName>) -> JSON { texts(hosts.map(\.rawValue).sorted()) }
private func map(_ values: [String: String]) -> JSON { .object(values.mapValues { .string($0) }) }

extension PlacementRequest {
    /// What `init(document:)` reads.
    public var document: JSON {
        var members: [String: JSON] = [
            "instances": texts(instances.map(\.rawValue)),
            "resources": [
                "vcpus": whole(resources.vcpus), "memory_mib": whole(resources.memoryMiB),
                "disk_gib": whole(resources.diskGiB),
            ],
            "project_id": .string(projectID.rawValue), "ignored_hosts": names(ignoredHosts),
            "scheduler_hints": .object(schedulerHints.mapValues { texts($0) }), "alternates": whole(alternates),
            "image_properties": map(imageProperties ?? [:]),
        ]
        members["flavor"] = flavor?.document
        members["availability_zone"] = availabilityZone.map { .string($0) }
        members["image_id"] = imageID.map { .string($0.rawValue) }
        members["forced_host"] = forcedHost.map { .string($0.rawValue) }
        members["forced_node"] = forcedNode.map { .string($0) }
        members["requested_host"] = requestedHost.map { .string($0.rawValue) }
        members["requested_node"] = requestedNode.map { .string($0) }
        members["tried_hosts"] = triedHosts.map(names)
        members["same_hosts"] = sameHosts.map(names)
        members["different_hosts"] = differentHosts.map(names)
        members["other_flavor_hosts"] = otherFlavorHosts.map(names)
        members["group"] = group?.document
        members["image_property_counts"] = imagePropertyCounts.map { counts in
            .object(
                Dictionary(
                    counts.map { ($0.key.rawValue, .object($0.value.mapValues(whole))) }, uniquingKeysWith: { $1 }))
        }
        return .object(members)
    }
}

extension PlacementRequest.Group {
    fileprivate var document: JSON {
        [
            "id": .string(id.rawValue), "policy": .string(policy.rawValue),
            "max_servers_per_host": whole(maxServersPerHost),
            "members": .object(
                Dictionary(members.map { ($0.key.rawValue, whole($0.value)) }, uniquingKeysWith: { $1 })),
        ]
    }
}

extension Flavor {
    fileprivate var document: JSON {
        [
            "id": .string(id.rawValue), "name": .string(name), "vcpus": whole(vcpus), "memory_mib": whole(memoryMiB),
            "root_gib": whole(rootGiB), "ephemeral_gib": whole(ephemeralGiB), "swap_mib": whole(swapMiB),
            "extra_specs": map(extraSpecs),
        ]
    }
}
