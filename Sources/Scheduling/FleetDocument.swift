public import Model

/// Hosts and aggregates as a file has them, for decisions without a cloud: `HOSTS.json`. A host's members are those of its
/// report, so that a report can be put in as it is.
public struct FleetDocument: Sendable {
    public var hosts: [HostState] = []
    /// The configuration of filters and weighers by `section.option`.
    public var options: [String: String] = [:]

    /// Throws where a member is none, is of another type, is out of its range, or is wanted and not there.
    public init(_ json: JSON) throws(DocumentError) {
        var document = try DocumentReader(json, "")
        options = try document.textMap("options") ?? [:]
        var facts: [HostName: [AggregateFacts]] = [:]
        var zones: [HostName: String] = [:]
        for (index, var entry) in (try document.objects("aggregates") ?? []).enumerated() {
            let metadata = try entry.textMap("metadata") ?? [:]
            let shared = AggregateFacts(name: try entry.text("name") ?? "aggregate-\(index)", metadata: metadata)
            for host in try entry.texts("hosts") ?? [] {
                facts[HostName(host), default: []].append(shared)
                if let zone = metadata["availability_zone"], zones[HostName(host)] == nil {
                    zones[HostName(host)] = zone
                }
            }
            try entry.finish()
        }
        guard let entries = try document.objects("hosts") else { throw document.missing("hosts") }
        try document.finish()
        hosts.reserveCapacity(entries.count)
        var seen: Set<HostName> = []
        for entry in entries {
            var host = try HostState(entry, zones)
            guard seen.insert(host.name).inserted else {
                throw DocumentError(entry.name("host"), "there is another \(host.name)")
            }
            host.aggregates = facts[host.name] ?? []
            hosts.append(host)
        }
    }
}

extension HostState {
    /// What a report has and no filter reads.
    private static let unread = [
        "uuid", "workload", "uptimeSeconds", "sequence", "measuredAt", "strays", "sharedStorage", "mediatedDevicePools",
    ]

    fileprivate init(_ document: DocumentReader, _ zones: [HostName: String]) throws(DocumentError) {
        var reader = document
        guard let name = try reader.text("host"), !name.isEmpty else { throw reader.missing("host") }
        guard let total = try Resources(&reader, "total") else { throw reader.missing("total") }
        self.init(
            name: HostName(name), total: total, reserved: try Resources(&reader, "reserved") ?? .zero,
            used: try Resources(&reader, "used") ?? .zero,
            diskAvailableLeastGiB: try reader.whole("diskAvailableLeastGiB"),
            isDisabled: try reader.flag("isDisabled") ?? false, isUp: try reader.flag("isUp") ?? true)
        availabilityZone = try reader.text("availabilityZone") ?? zones[self.name] ?? "nova"
        node = try reader.text("hypervisorHostname") ?? name
        if var given = try reader.object("ratios") {
            ratios = AllocationRatios(
                cpu: try given.number("cpu") ?? ratios.cpu, memory: try given.number("memory") ?? ratios.memory,
                disk: try given.number("disk") ?? ratios.disk)
            try given.finish()
        }
        guestOverheadMiB = try reader.whole("guestOverheadMiB") ?? 0
        (instanceCount, ioOperations) = (
            try reader.whole("runningInstances") ?? 0, try reader.whole("ioWorkload") ?? 0
        )
        failedBuilds = try reader.whole("failedBuilds") ?? 0
        hypervisorType = try reader.text("hypervisorType") ?? ""
        hypervisorVersion = try reader.whole("hypervisorVersion") ?? 0
        address = try reader.text("hostAddress") ?? ""
        architecture = try reader.text("architecture") ?? ""
        (cpuModel, cpuVendor) = (try reader.text("cpuModel"), try reader.text("cpuVendor"))
        cpuFeatures = try reader.texts("cpuFeatures") ?? []
        if var given = try reader.object("cpuTopology") {
            let counts = 1...1_000_000
            cpuTopology = CPUTopology(
                cells: try given.whole("cells", in: counts) ?? 1, sockets: try given.whole("sockets", in: counts) ?? 1,
                cores: try given.whole("cores", in: counts) ?? 1, threads: try given.whole("threads", in: counts) ?? 1)
            try given.finish()
        }
        traits = try reader.texts("traits") ?? []
        for var metric in try reader.objects("metrics") ?? [] {
            guard let name = try metric.text("name") else { throw metric.missing("name") }
            guard let value = try metric.number("value") else { throw metric.missing("value") }
            metrics[name] = value
            metric.drop(["source", "measuredAt"])
            try metric.finish()
        }
        for cell in try reader.objects("cells") ?? [] { cells = (cells ?? []) + [try HostCellReport(cell)] }
        for pool in try reader.objects("pciPools") ?? [] { pciPools = (pciPools ?? []) + [try PCIPool(pool)] }
        reader.drop(Self.unread)
        try reader.finish()
    }
}

extension Resources {
    init?(_ reader: inout DocumentReader, _ member: String) throws(DocumentError) {
        guard var given = try reader.object(member) else { return nil }
        self.init(
            vcpus: try given.whole("vcpus") ?? 0, memoryMiB: try given.whole("memoryMiB") ?? 0,
            diskGiB: try given.whole("diskGiB") ?? 0)
        try given.finish()
    }
}

extension HostCellReport {
    fileprivate init(_ document: DocumentReader) throws(DocumentError) {
        var reader = document
        guard let id = try reader.whole("id", in: 0...65_535) else { throw reader.missing("id") }
        guard let memory = try reader.whole("memoryMiB", in: 0...DocumentReader.limit) else {
            throw reader.missing("memoryMiB")
        }
        self.init(
            id: id, memoryMiB: memory, memoryUsedMiB: try reader.whole("memoryUsedMiB") ?? 0,
            sharedCPUs: try reader.cpus("sharedCPUs") ?? CPUSet(), sharedVCPUs: try reader.whole("sharedVCPUs") ?? 0,
            dedicatedCPUs: try reader.cpus("dedicatedCPUs") ?? CPUSet(),
            takenCPUs: try reader.cpus("takenCPUs") ?? CPUSet(), cores: try reader.cpuLists("cores") ?? [], pages: [])
        for var page in try reader.objects("pages") ?? [] {
            guard let size = try page.whole("sizeKiB", in: 1...1_073_741_824) else { throw page.missing("sizeKiB") }
            let counts = 0...1_000_000_000
            pages.append(
                .init(
                    sizeKiB: size, total: try page.whole("total", in: counts) ?? 0,
                    reserved: try page.whole("reserved", in: counts) ?? 0, used: try page.whole("used", in: counts) ?? 0
                ))
            try page.finish()
        }
        try reader.finish()
    }
}

extension PCIPool {
    fileprivate init(_ document: DocumentReader) throws(DocumentError) {
        var reader = document
        guard let vendor = try reader.text("vendorID") else { throw reader.missing("vendorID") }
        guard let product = try reader.text("productID") else { throw reader.missing("productID") }
        let kind = try reader.text("kind") ?? PCIDevice.Kind.plain.rawValue
        guard let kind = PCIDevice.Kind(rawValue: kind) else {
            throw DocumentError(reader.name("kind"), "type-PCI, type-PF or type-VF is wanted")
        }
        let total = try reader.whole("total", in: 0...1_000_000) ?? 0
        self.init(
            vendorID: vendor, productID: product, kind: kind, numaNode: try reader.whole("numaNode", in: 0...65_535),
            total: total, free: try reader.whole("free", in: 0...1_000_000) ?? total,
            aliases: try reader.textMap("aliases"))
        try reader.finish()
    }
}
