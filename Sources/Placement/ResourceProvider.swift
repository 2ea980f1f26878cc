internal import Database
internal import Model

/// How much of one resource class a provider has. Amounts are of what a host said, so they may be absurd.
struct Inventory: Sendable, Hashable {
    let resourceClass: String
    let total: Int
    let reserved: Int
    let allocationRatio: Double
    /// What the host's claims take.
    let used: Int

    /// What can be promised: (total − reserved) × ratio, never below 0.
    var capacity: Int {
        let amount = ((Double(total) - Double(reserved)) * allocationRatio).rounded(.down)
        guard amount > 0 else { return 0 }
        return Int(exactly: amount) ?? .max
    }

    /// Whether `amount` more can be promised, in one piece no larger than what there is.
    func admits(_ amount: Int) -> Bool {
        let (sum, isTooMuch) = used.addingReportingOverflow(amount)
        return (1...max(1, total)).contains(amount) && !isTooMuch && sum <= capacity
    }

    func write(to writer: inout JSONWriter) {
        writer.member("total", total)
        writer.member("reserved", reserved)
        writer.member("min_unit", 1)
        writer.member("max_unit", total)
        writer.member("step_size", 1)
        writer.member("allocation_ratio", allocationRatio)
    }
}

/// A compute host as Placement shows it: the root of a tree that has no other members.
struct ResourceProvider: Sendable {
    let uuid: String
    let name: String
    let host: HostName
    /// Rises with each report that changes the host's record.
    let generation: Int64
    let updatedAt: Timestamp
    /// Classes of which the host has nothing are not listed.
    let inventories: [Inventory]
    let traits: Set<String>
    /// The uuids of the host aggregates that it is in.
    let aggregates: [String]

    init(_ record: HostRecord, isDisabled: Bool, aggregates: [String]) {
        self.aggregates = aggregates
        let report = record.report
        (uuid, name, host) = (report.uuid, report.hypervisorHostname, report.host)
        (generation, updatedAt) = (record.revision, record.updatedAt)
        func inventory(_ name: String, _ amount: KeyPath<Resources, Int>, _ ratio: Double) -> Inventory {
            let reserved = report.reserved[keyPath: amount]
            let used = report.used[keyPath: amount].subtractingReportingOverflow(reserved)
            return Inventory(
                resourceClass: name, total: report.total[keyPath: amount], reserved: reserved, allocationRatio: ratio,
                used: used.overflow ? 0 : max(0, used.partialValue))
        }
        inventories = [
            inventory("VCPU", \.vcpus, report.ratios.cpu), inventory("MEMORY_MB", \.memoryMiB, report.ratios.memory),
            inventory("DISK_GB", \.diskGiB, report.ratios.disk), Self.dedicated(report),
            Self.shares(report),
        ].filter { $0.total > 0 }
        traits = Set(report.traits ?? []).union(Vocabulary.hostTraits).union(
            isDisabled ? [Vocabulary.disabledTrait] : [])
    }

    /// The processors that guests get for themselves. What a host says of its cells may be anything, but it is counted.
    private static func dedicated(_ report: HostReport) -> Inventory {
        let cells = report.cells ?? []
        return Inventory(
            resourceClass: "PCPU", total: cells.reduce(0) { $0 + $1.dedicatedCPUs.count }, reserved: 0,
            allocationRatio: 1, used: cells.reduce(0) { $0 + $1.takenCPUs.count })
    }

    /// The mediated devices of all physical ones together, since the root is the only member of its tree.
    private static func shares(_ report: HostReport) -> Inventory {
        let pools = report.mediatedDevicePools ?? []
        return Inventory(
            resourceClass: "VGPU", total: pools.reduce(0) { $0 + $1.total }, reserved: 0, allocationRatio: 1,
            used: pools.reduce(0) { $0 + $1.used })
    }

    func inventory(of resourceClass: String) -> Inventory? {
        inventories.first { $0.resourceClass == resourceClass }
    }

    /// Every host that has reported, in the order in which they first did.
    static func all(_ database: ControlDatabase) async throws -> [ResourceProvider] {
        let disabled = Set(
            try await database.services.list(binary: "nova-compute").filter(\.isDisabled).map(\.host))
        let memberships = try await database.aggregates.table().memberships
        return try await database.hosts.list().map { record in
            let host = record.report.host
            return ResourceProvider(
                record, isDisabled: disabled.contains(host), aggregates: memberships[host] ?? [])
        }
    }

    /// Throws 404 for an unknown uuid.
    static func find(_ uuid: String, _ database: ControlDatabase) async throws -> ResourceProvider {
        guard isUUID(uuid), let record = try await database.hosts.find(uuid: uuid.lowercased()) else {
            throw PlacementError.unknownProvider(uuid)
        }
        return try await make(record, database)
    }

    static func find(host: HostName, _ database: ControlDatabase) async throws -> ResourceProvider? {
        guard let record = try await database.hosts.find(host) else { return nil }
        return try await make(record, database)
    }

    private static func make(_ record: HostRecord, _ database: ControlDatabase) async throws -> ResourceProvider {
        let service = try await database.services.find(host: record.report.host, binary: "nova-compute")
        let memberships = try await database.aggregates.table().memberships
        return ResourceProvider(
            record, isDisabled: service?.isDisabled ?? false, aggregates: memberships[record.report.host] ?? [])
    }
}

/// What an instance takes from its host, as long as it is there.
struct Allocation: Sendable {
    let instance: Instance

    /// `nil` for an instance that has no place on any host.
    init?(_ instance: Instance) {
        guard instance.host != nil, instance.deletedAt == nil, instance.vmState != .shelvedOffloaded else { return nil }
        self.instance = instance
    }

    var resources: [(resourceClass: String, amount: Int)] {
        let amounts = instance.resources
        let all: [(resourceClass: String, amount: Int)] = [
            ("VCPU", amounts.vcpus), ("PCPU", instance.dedicatedVCPUs), ("MEMORY_MB", amounts.memoryMiB),
            ("DISK_GB", amounts.diskGiB), ("VGPU", instance.vgpus),
        ]
        return all.filter { $0.amount > 0 }
    }

    func writeResources(to writer: inout JSONWriter) {
        writer.object("resources") { writer in
            for (name, amount) in resources { writer.member(name, amount) }
        }
    }
}
