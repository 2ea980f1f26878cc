internal import Database
internal import HTTP
internal import Model

/// The names of resource classes and traits.
enum Vocabulary {
    /// The standard resource classes. What hosts have of them, their inventories say.
    static let resourceClasses = [
        "VCPU", "MEMORY_MB", "DISK_GB", "PCI_DEVICE", "SRIOV_NET_VF", "NUMA_SOCKET", "NUMA_CORE", "NUMA_THREAD",
        "NUMA_MEMORY_MB", "IPV4_ADDRESS", "VGPU", "VGPU_DISPLAY_HEAD", "NET_BW_EGR_KILOBIT_PER_SEC",
        "NET_BW_IGR_KILOBIT_PER_SEC", "PCPU", "MEM_ENCRYPTION_CONTEXT", "FPGA", "PGPU",
        "NET_PACKET_RATE_KILOPACKET_PER_SEC", "NET_PACKET_RATE_EGR_KILOPACKET_PER_SEC",
        "NET_PACKET_RATE_IGR_KILOPACKET_PER_SEC",
    ]

    /// What every compute host's provider has.
    static let hostTraits: Set<String> = ["COMPUTE_NODE", "OWNER_NOVA"]

    /// Mirrors that the host's service is disabled.
    static let disabledTrait = "COMPUTE_STATUS_DISABLED"

    /// 1 to 255 capital letters, digits and underscores.
    static func isName(_ text: some StringProtocol) -> Bool {
        (1...255).contains(text.utf8.count)
            && text.utf8.allSatisfy { (65...90).contains($0) || (48...57).contains($0) || $0 == 95 }
    }

    /// Every trait that a provider has, or could have from us.
    static func traits(of providers: [ResourceProvider]) -> Set<String> {
        providers.reduce(into: hostTraits.union([disabledTrait])) { $0.formUnion($1.traits) }
    }
}

extension PlacementRoutes {
    mutating func addVocabulary() {
        let (database, path) = (database, "/resource_classes")
        add(path, since: 2) { call in
            try call.requireQuery([])
            let prefix = linkPrefix(call.request)
            return PlacementAnswer(capacity: 4_096) { writer in
                writer.array("resource_classes") { writer in
                    for name in Vocabulary.resourceClasses {
                        writer.object { writeResourceClass(name, prefix, to: &$0) }
                    }
                }
            }
        }
        add(path + "/{name}", since: 2) { call in
            let name = call.parameter("name")
            guard Vocabulary.resourceClasses.contains(name) else {
                throw PlacementError.notFound("No such resource class: \(name)")
            }
            return PlacementAnswer { writeResourceClass(name, linkPrefix(call.request), to: &$0) }
        }
        add("/traits", since: 6) { call in
            try call.requireQuery(["name", "associated"])
            let providers = try await ResourceProvider.all(database)
            let traits = try filtered(Vocabulary.traits(of: providers), call, providers)
            return PlacementAnswer(capacity: 64 + traits.count * 40) { writer in
                writer.array("traits") { writer in
                    for trait in traits.sorted() { writer.string(trait) }
                }
            }
        }
        add("/traits/{name}", since: 6) { call in
            let name = call.parameter("name")
            guard Vocabulary.traits(of: try await ResourceProvider.all(database)).contains(name) else {
                throw PlacementError.notFound("No such trait(s): \(name).")
            }
            return PlacementAnswer(204)
        }
    }
}

private func writeResourceClass(_ name: String, _ prefix: String, to writer: inout JSONWriter) {
    writer.member("name", name)
    writer.array("links") { writer in
        writer.object {
            $0.member("rel", "self")
            $0.member("href", "\(prefix)/resource_classes/\(name)")
        }
    }
}

/// By `name=in:A,B` or `name=startswith:A`, and by `associated`: whether a provider has them.
private func filtered(
    _ traits: Set<String>, _ call: PlacementCall, _ providers: [ResourceProvider]
) throws(PlacementError) -> Set<String> {
    var traits = traits
    if let text = call.request.query["name"] {
        if text.hasPrefix("in:") {
            traits.formIntersection(text.dropFirst(3).split(separator: ",").map(String.init))
        } else if text.hasPrefix("startswith:") {
            let start = text.dropFirst("startswith:".count)
            traits = traits.filter { $0.hasPrefix(start) }
        } else {
            throw .badQuery("The name parameter is 'in:A,B' or 'startswith:A', not '\(text.prefix(64))'.")
        }
    }
    if let text = call.request.query["associated"] {
        let held = providers.reduce(into: Set<String>()) { $0.formUnion($1.traits) }
        switch text.lowercased() {
        case "true": traits.formIntersection(held)
        case "false": traits.subtract(held)
        default: throw .badQuery("The associated parameter is true or false, not '\(text.prefix(64))'.")
        }
    }
    return traits
}

/// What paths in answers begin with: the path under which this router is mounted.
func linkPrefix(_ request: HTTPRequest) -> String {
    let segments = request.path.split(separator: "/")
    let own = ["resource_providers", "resource_classes"]
    guard let index = segments.firstIndex(where: { own.contains(String($0)) }) else { return "" }
    return segments[..<index].map { "/" + $0 }.joined()
}
