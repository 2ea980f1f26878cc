public import Model

/// Hosts and aggregates as a file has them, for decisions without a cloud: `HOSTS.json`, which `apus scheduler export`
/// writes.
public struct FleetDocument: Sendable {
    public var hosts: [HostState] = []
    /// The configuration of filters and weighers by `section.option`.
    public var options: [String: String] = [:]

    public init(hosts: [HostState]) { self.hosts = hosts }

    /// What `init` reads.
    public var json: JSON {
        var names: [ObjectIdentifier: [HostName]] = [:]
        var shared: [AggregateFacts] = []
        for host in hosts {
            for facts in host.aggregates {
                if names[ObjectIdentifier(facts)] == nil { shared.append(facts) }
                names[ObjectIdentifier(facts), default: []].append(host.name)
            }
        }
        var members: [String: JSON] = [
            "hosts": .array(hosts.map(\.document)),
            "aggregates": .array(
                shared.map { facts in
                    [
                        "name": .string(facts.name), "metadata": .object(facts.metadata.mapValues { .string($0) }),
                        "hosts": .array((names[ObjectIdentifier(facts)] ?? []).map { .string($0.rawValue) }),
                    ]
                }),
        ]
        if !options.isEmpty { members["options"] = .object(options.mapValues { .string($0) }) }
        return .object(members)
    }

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
    fileprivate init(_ document: DocumentReader, _ zones: [HostName: String]) throws(DocumentError) {
        var reader = document
        guard let name = try reader.text("host"), !name.isEmpty else { throw reader.missing("host") }
        guard let total = try Resources(&reader, "total") else { throw reader.missing("total") }
        self.init(
            name: HostName(name), total: total, reserved: try Resources(&reader, "reserved") ?? .zero,
            used: try Resources(&reader, "used") ?? .zero,
            diskAvailableLeastGiB: try reader.whole("disk_available_least_gib"),
            isDisabled: try reader.flag("is_disabled") ?? false, isUp: try reader.flag("is_up") ?? true)
        availabilityZone = try reader.text("availability_zone") ?? zones[self.name] ?? "nova"
        node = try reader.text("hypervisor_hostname") ?? name
        if var given = try reader.object("allocation_ratios") {
            ratios = AllocationRatios(
                cpu: try given.number("vcpus") ?? ratios.cpu, memory: try given.number("memory_mib") ?? ratios.memory,
                disk: try given.number("disk_gib") ?? ratios.disk)
            try given.finish()
        }
        guestOverheadMiB = try reader.whole("guest_overhead_mib") ?? 0
        (instanceCount, ioOperations) = (
            try reader.whole("running_instances") ?? 0, try reader.whole("io_workload") ?? 0
        )
        failedBuilds = try reader.whole("failed_builds") ?? 0
        hypervisorType = try reader.text("hypervisor_type") ?? ""
        hypervisorVersion = try reader.whole("hypervisor_version") ?? 0
        address = try reader.text("host_address") ?? ""
        architecture = try reader.text("architecture") ?? ""
        (cpuModel, cpuVendor) = (try reader.text("cpu_model"), try reader.text("cpu_vendor"))
        cpuFeatures = try reader.texts("cpu_features") ?? []
        if var given = try reader.object("cpu_topology") {
            let counts = 1...1_000_000
            cpuTopology = CPUTopology(
                cells: try given.whole("cells", in: counts) ?? 1, sockets: try given.whole("sockets", in: counts) ?? 1,
                cores: try given.whole("cores", in: counts) ?? 1, threads: try given.whole("threads", in: counts) ?? 1)
            try given.finish()
        }
        traits = try reader.texts("traits") ?? []
        trustLevel = try reader.text("trust_level")
        for var metric in try reader.objects("metrics") ?? [] {
            guard let name = try metric.text("name") else { throw metric.missing("name") }
            guard let value = try metric.number("value") else { throw metric.missing("value") }
            metrics[name] = value
            try metric.finish()
        }
        for cell in try reader.objects("cells") ?? [] { cells = (cells ?? []) + [try HostCellReport(cell)] }
        for pool in try reader.objects("pci_pools") ?? [] { pciPools = (pciPools ?? []) + [try PCIPool(pool)] }
        try reader.finish()
    }
}

extension Resources {
    init?(_ reader: inout DocumentReader, _ member: String) throws(DocumentError) {
        guard var given = try reader.object(member) else { return nil }
        self.init(
            vcpus: try given.whole("vcpus") ?? 0, memoryMiB: try given.whole("memory_mib") ?? 0,
            diskGiB: try given.whole("disk_gib") ?? 0)
        try given.finish()
    }
}

extension HostCellReport {
    fileprivate init(_ document: DocumentReader) throws(DocumentError) {
        var reader = document
        guard let id = try reader.whole("id", in: 0...65_535) else { throw reader.missing("id") }
        guard let memory = try reader.whole("memory_mib", in: 0...DocumentReader.limit) else {
            throw reader.missing("memory_mib")
        }
        self.init(
            id: id, memoryMiB: memory, memoryUsedMiB: try reader.whole("memory_used_mib") ?? 0,
            sharedCPUs: try reader.cpus("shared_cpus") ?? CPUSet(), sharedVCPUs: try reader.whole("shared_vcpus") ?? 0,
            dedicatedCPUs: try reader.cpus("dedicated_cpus") ?? CPUSet(),
            takenCPUs: try reader.cpus("taken_cpus") ?? CPUSet(), cores: try reader.cpuLists("cores") ?? [], pages: [])
        for var page in try reader.objects("pages") ?? [] {
            guard let size = try page.whole("size_kib", in: 1...1_073_741_824) else { throw page.missing("size_kib") }
            let counts = 0...1_000_000_000
            pages.append(
                .init(
                    sizeKiB: size, total: try page.whole("total", in: counts) ?? 0,
                    reserved: try page.whole("reserved", in: counts) ?? 0, used: try page.whole("used", in: counts) ?? 0
                ))
            try page.finish()
        }
        socket = try reader.whole("socket", in: 0...65_535)
        try reader.finish()
    }
}

extension PCIPool {
    fileprivate init(_ document: DocumentReader) throws(DocumentError) {
        var reader = document
        guard let vendor = try reader.text("vendor_id") else { throw reader.missing("vendor_id") }
        guard let product = try reader.text("product_id") else { throw reader.missing("product_id") }
        let kind = try reader.text("kind") ?? PCIDevice.Kind.plain.rawValue
        guard let kind = PCIDevice.Kind(rawValue: kind) else {
            throw DocumentError(reader.name("kind"), "type-PCI, type-PF or type-VF is wanted")
        }
        let function = try reader.text("physical_function")
        // The pool of one physical function has that one.
        let most = kind == .physicalFunction && function != nil ? 1 : 1_000_000
        let total = try reader.whole("total", in: 0...most) ?? 0
        self.init(
            vendorID: vendor, productID: product, kind: kind, numaNode: try reader.whole("numa_node", in: 0...65_535),
            total: total, free: try reader.whole("free", in: 0...1_000_000) ?? total,
            aliases: try reader.textMap("aliases"), physicalFunction: function)
        try reader.finish()
    }
}

// MARK: - Writing

private func whole(_ value: Int) -> JSON { .integer(Int64(value)) }
private func texts(_ values: [String]) -> JSON { .array(values.map { .string($0) }) }

extension HostState {
    fileprivate var document: JSON {
        var members: [String: JSON] = [
            "host": .string(name.rawValue), "hypervisor_hostname": .string(node),
            "availability_zone": .string(availabilityZone), "is_disabled": .bool(isDisabled), "is_up": .bool(isUp),
            "total": total.document, "reserved": reserved.document, "used": used.document,
            "allocation_ratios": [
                "vcpus": .number(ratios.cpu), "memory_mib": .number(ratios.memory), "disk_gib": .number(ratios.disk),
            ],
            "guest_overhead_mib": whole(guestOverheadMiB), "running_instances": whole(instanceCount),
            "io_workload": whole(ioOperations), "failed_builds": whole(failedBuilds),
            "hypervisor_type": .string(hypervisorType), "hypervisor_version": whole(hypervisorVersion),
            "host_address": .string(address), "architecture": .string(architecture), "cpu_features": texts(cpuFeatures),
            "cpu_topology": [
                "cells": whole(cpuTopology.cells), "sockets": whole(cpuTopology.sockets),
                "cores": whole(cpuTopology.cores), "threads": whole(cpuTopology.threads),
            ],
            "traits": texts(traits),
            "metrics": .array(
                metrics.sorted { $0.key < $1.key }.map { ["name": .string($0.key), "value": .number($0.value)] }),
        ]
        members["disk_available_least_gib"] = diskAvailableLeastGiB.map(whole)
        members["trust_level"] = trustLevel.map { .string($0) }
        members["cpu_model"] = cpuModel.map { .string($0) }
        members["cpu_vendor"] = cpuVendor.map { .string($0) }
        members["cells"] = cells.map { .array($0.map(\.document)) }
        members["pci_pools"] = pciPools.map { .array($0.map(\.document)) }
        return .object(members)
    }
}

extension Resources {
    fileprivate var document: JSON {
        ["vcpus": whole(vcpus), "memory_mib": whole(memoryMiB), "disk_gib": whole(diskGiB)]
    }
}

extension HostCellReport {
    fileprivate var document: JSON {
        var members: [String: JSON] = [
            "id": whole(id), "memory_mib": whole(memoryMiB), "memory_used_mib": whole(memoryUsedMiB),
            "shared_cpus": .string(sharedCPUs.description), "shared_vcpus": whole(sharedVCPUs),
            "dedicated_cpus": .string(dedicatedCPUs.description), "taken_cpus": .string(takenCPUs.description),
            "cores": texts(cores.map(\.description)),
            "pages": .array(
                pages.map { page in
                    [
                        "size_kib": whole(page.sizeKiB), "total": whole(page.total), "reserved": whole(page.reserved),
                        "used": whole(page.used),
                    ]
                }),
        ]
        members["socket"] = socket.map(whole)
        return .object(members)
    }
}

extension PCIPool {
    fileprivate var document: JSON {
        var members: [String: JSON] = [
            "vendor_id": .string(vendorID), "product_id": .string(productID), "kind": .string(kind.rawValue),
            "total": whole(total), "free": whole(free),
        ]
        members["numa_node"] = numaNode.map(whole)
        members["aliases"] = aliases.map { .object($0.mapValues { .string($0) }) }
        members["physical_function"] = physicalFunction.map { .string($0) }
        return .object(members)
    }
}
