internal import HTTP
internal import Model

/// `GET /servers/{id}/diagnostics`: what the hypervisor counts of a running guest.
extension ComputeRoutes {
    mutating func addDiagnostics() {
        let parts = parts
        addServer(.get, "/diagnostics", rule: "os-server-diagnostics") { call, server in
            try requireAdmitted(.diagnostics, to: server, call)
            guard server.powerState == .running else {
                throw APIError.conflict(
                    "Cannot '\(InstanceRequest.diagnostics.name)' instance \(server.id): its guest does not run.")
            }
            let found = try await parts.conductor.diagnostics(server.id)
            return jsonAnswer(capacity: 1_024) { writer in
                if call.isAtLeast(48) {
                    writeStandard(found, to: &writer)
                } else {
                    writeLegacy(found, to: &writer)
                }
            }
        }
    }
}

private func writeStandard(_ found: GuestDiagnostics, to writer: inout JSONWriter) {
    writer.member("state", found.powerState.name)
    writer.member("driver", "libvirt")
    writer.member("hypervisor", found.hypervisor)
    writer.member("hypervisor_os", "linux")
    writer.member("uptime", found.uptimeSeconds)
    writer.member("config_drive", found.hasConfigDrive)
    writer.member("num_cpus", found.processors.count)
    writer.member("num_nics", found.interfaces.count)
    writer.member("num_disks", found.disks.count)
    writer.object("memory_details") {
        $0.member("maximum", found.memoryMaximumMiB)
        $0.member("used", found.memoryUsedMiB)
    }
    writer.array("cpu_details") { writer in
        for processor in found.processors {
            writer.object {
                $0.member("id", processor.id)
                $0.member("time", processor.timeNanoseconds)
                // A rate would take two looks; what the hypervisor counts is the time.
                $0.member("utilisation", nil as Int?)
            }
        }
    }
    writer.array("nic_details") { writer in
        for nic in found.interfaces { writer.object { write(nic, to: &$0) } }
    }
    writer.array("disk_details") { writer in
        for disk in found.disks {
            writer.object {
                $0.member("read_bytes", disk.readBytes)
                $0.member("read_requests", disk.readRequests)
                $0.member("write_bytes", disk.writtenBytes)
                $0.member("write_requests", disk.writeRequests)
                $0.member("errors_count", disk.errors)
            }
        }
    }
}

private func write(_ nic: GuestDiagnostics.Interface, to writer: inout JSONWriter) {
    writer.member("mac_address", nic.macAddress)
    writer.member("rx_octets", nic.receivedBytes)
    writer.member("rx_errors", nic.receivedErrors)
    writer.member("rx_drop", nic.receivedDrops)
    writer.member("rx_packets", nic.receivedPackets)
    writer.member("rx_rate", nil as Int?)
    writer.member("tx_octets", nic.sentBytes)
    writer.member("tx_errors", nic.sentErrors)
    writer.member("tx_drop", nic.sentDrops)
    writer.member("tx_packets", nic.sentPackets)
    writer.member("tx_rate", nil as Int?)
}

/// The form before 2.48: one flat object, its keys made of the devices' names; what is not known is left out.
private func writeLegacy(_ found: GuestDiagnostics, to writer: inout JSONWriter) {
    func count(_ name: String, _ value: Int64?) {
        if let value { writer.member(name, value) }
    }
    writer.member("memory", found.memoryMaximumMiB * 1_024)
    count("memory-actual", found.memoryUsedMiB.map { $0 * 1_024 })
    for processor in found.processors { count("cpu\(processor.id)_time", processor.timeNanoseconds) }
    for disk in found.disks {
        count("\(disk.device)_read_req", disk.readRequests)
        count("\(disk.device)_read", disk.readBytes)
        count("\(disk.device)_write_req", disk.writeRequests)
        count("\(disk.device)_write", disk.writtenBytes)
        count("\(disk.device)_errors", disk.errors)
    }
    for (index, nic) in found.interfaces.enumerated() {
        count("net\(index)_rx", nic.receivedBytes)
        count("net\(index)_rx_packets", nic.receivedPackets)
        count("net\(index)_rx_errors", nic.receivedErrors)
        count("net\(index)_rx_drop", nic.receivedDrops)
        count("net\(index)_tx", nic.sentBytes)
        count("net\(index)_tx_packets", nic.sentPackets)
        count("net\(index)_tx_errors", nic.sentErrors)
        count("net\(index)_tx_drop", nic.sentDrops)
    }
}
