internal import Model

extension HostState {
    /// What extra specs and queries call a host's attributes, by Nova's names; `nil` for one that there is not.
    func attribute(_ name: String) -> JSON? {
        switch name {
        case "host": .string(self.name.rawValue)
        case "nodename", "hypervisor_hostname": .string(node)
        case "total_usable_ram_mb": whole(total.memoryMiB)
        case "free_ram_mb": whole(total.memoryMiB - used.memoryMiB)
        case "total_usable_disk_gb": whole(total.diskGiB)
        case "disk_mb_used": whole(used.diskGiB.multipliedReportingOverflow(by: 1_024).partialValue)
        case "free_disk_mb": whole(freeDiskMiB)
        case "vcpus_total": whole(total.vcpus)
        case "vcpus_used": whole(used.vcpus)
        case "cpu_allocation_ratio": .number(ratios.cpu)
        case "ram_allocation_ratio": .number(ratios.memory)
        case "disk_allocation_ratio": .number(ratios.disk)
        case "num_instances": whole(instanceCount)
        case "num_io_ops", "io_workload": whole(ioOperations)
        case "failed_builds": whole(failedBuilds)
        case "host_ip": .string(address)
        case "hypervisor_type": .string(hypervisorType)
        case "hypervisor_version": whole(hypervisorVersion)
        case "cpu_info": cpuInfo
        default: nil
        }
    }

    /// The attribute at the end of a path, each part of it the member of an object.
    func attribute(at path: [String]) -> JSON? {
        guard let first = path.first else { return nil }
        var rest = path.dropFirst()
        // Of a processor with a hundred features only what is asked for.
        guard var value = first == "cpu_info" && !rest.isEmpty ? cpuInfo(rest.removeFirst()) : attribute(first) else {
            return nil
        }
        for part in rest {
            guard let next = value[part] else { return nil }
            value = next
        }
        return value
    }

    /// The free disk in MiB: what is not promised, or less where the file system has less.
    var freeDiskMiB: Int {
        let free = min(total.diskGiB - used.diskGiB, diskAvailableLeastGiB ?? .max)
        return min(max(free, -(1 << 50)), 1 << 50) * 1_024
    }

    private func cpuInfo(_ member: String) -> JSON? {
        switch member {
        case "arch": .string(architecture)
        case "model": cpuModel.map { .string($0) } ?? .null
        case "vendor": cpuVendor.map { .string($0) } ?? .null
        case "features": .array(cpuFeatures.map { .string($0) })
        case "topology":
            .object([
                "cells": whole(cpuTopology.cells), "sockets": whole(cpuTopology.sockets),
                "cores": whole(cpuTopology.cores), "threads": whole(cpuTopology.threads),
            ])
        default: nil
        }
    }

    private var cpuInfo: JSON {
        var members: [String: JSON] = [:]
        for name in ["arch", "model", "vendor", "features", "topology"] { members[name] = cpuInfo(name) }
        return .object(members)
    }

    private func whole(_ value: Int) -> JSON { .integer(Int64(value)) }
}

extension JSON {
    /// As Python would write it: what operators were made to be compared with.
    var pythonText: String {
        switch self {
        case .null: "None"
        case .bool(let flag): flag ? "True" : "False"
        case .integer(let value): String(value)
        case .number(let value): String(value)
        case .string(let text): text
        case .array(let elements): "[" + elements.map(\.pythonItem).joined(separator: ", ") + "]"
        case .object(let members):
            "{"
                + members.sorted { $0.key < $1.key }.map { "'\($0.key)': \($0.value.pythonItem)" }
                .joined(separator: ", ") + "}"
        }
    }

    private var pythonItem: String {
        if case .string(let text) = self { return "'\(text)'" }
        return pythonText
    }
}
