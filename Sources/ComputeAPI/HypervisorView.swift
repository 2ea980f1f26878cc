internal import Database
internal import HTTP
internal import Model

/// One hypervisor with its service, as clients of each version see it.
struct HypervisorView: Sendable {
    let report: HostReport
    private let number: Int64
    private let service: ServiceRecord?
    private let now: Timestamp
    let isUp: Bool

    var isDisabled: Bool { service?.isDisabled ?? false }

    /// Every hypervisor that has reported, in the order in which they first did.
    static func all(_ parts: ComputeParts) async throws -> [HypervisorView] {
        let services = Dictionary(
            try await parts.database.services.list(binary: "nova-compute").map { ($0.host, $0) },
            uniquingKeysWith: { first, _ in first })
        let now = parts.now()
        return try await parts.database.hosts.list().map { host in
            let service = services[host.report.host]
            return HypervisorView(
                report: host.report, number: host.id, service: service, now: now,
                isUp: service?.isUp(now: now, downAfter: parts.settings.serviceDownTime) ?? false)
        }
    }

    func id(_ call: ComputeCall) -> String { call.isAtLeast(53) ? report.uuid : String(number) }

    /// In the words of uptime(1), as far as the host tells it.
    var uptime: String? {
        guard let seconds = report.uptime(at: now) else { return nil }
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60)
        let clock = now.spaced.suffix(8)
        let length =
            (days > 0 ? "\(days) day\(days == 1 ? "" : "s"), " : "")
            + (hours > 0 ? "\(hours):\(minutes < 10 ? "0" : "")\(minutes)" : "\(minutes) min")
        return " \(clock) up \(length)"
    }

    func writeBrief(_ call: ComputeCall, to writer: inout JSONWriter) {
        if call.isAtLeast(53) { writer.member("id", report.uuid) } else { writer.member("id", number) }
        writer.member("hypervisor_hostname", report.hypervisorHostname)
        writer.member("state", isUp ? "up" : "down")
        writer.member("status", isDisabled ? "disabled" : "enabled")
    }

    func writeDetail(_ call: ComputeCall, servers: [Instance]?, to writer: inout JSONWriter) {
        writeBrief(call, to: &writer)
        writeProcessor(call, to: &writer)
        let free = report.total - report.used
        writer.member("current_workload", report.workload)
        writer.member("disk_available_least", report.diskAvailableLeastGiB)
        writer.member("free_disk_gb", free.diskGiB)
        writer.member("free_ram_mb", free.memoryMiB)
        writer.member("host_ip", report.hostAddress)
        writer.member("hypervisor_type", report.hypervisorType)
        writer.member("hypervisor_version", report.hypervisorVersion)
        writer.member("local_gb", report.total.diskGiB)
        writer.member("local_gb_used", report.used.diskGiB)
        writer.member("memory_mb", report.total.memoryMiB)
        writer.member("memory_mb_used", report.used.memoryMiB)
        writer.member("running_vms", report.runningInstances)
        writer.member("vcpus", report.total.vcpus)
        writer.member("vcpus_used", report.used.vcpus)
        writer.object("service") { writer in
            if call.isAtLeast(53) {
                writer.member("id", service?.uuid ?? "")
            } else {
                writer.member("id", service?.id ?? 0)
            }
            writer.member("host", report.host.rawValue)
            writer.member("disabled_reason", service?.disabledReason)
        }
        // The other figures, which Nova leaves to its placement service from here on, stay: people look for them here.
        if call.isAtLeast(88) { writer.member("uptime", isUp ? uptime : nil) }
        Self.write(servers, call, to: &writer)
    }

    /// The `servers` member, which up to 2.74 a hypervisor without servers does not have.
    static func write(_ servers: [Instance]?, _ call: ComputeCall, to writer: inout JSONWriter) {
        guard let servers, !servers.isEmpty || call.isAtLeast(75) else { return }
        writer.array("servers") { writer in
            for server in servers {
                writer.object {
                    $0.member("uuid", server.id.rawValue)
                    $0.member("name", server.domainName)
                }
            }
        }
    }

    /// `cpu_info`: JSON text up to 2.27, an object from 2.28.
    private func writeProcessor(_ call: ComputeCall, to writer: inout JSONWriter) {
        writer.key("cpu_info")
        guard call.isAtLeast(28) else {
            var text = JSONWriter(capacity: 512)
            writeProcessor(to: &text)
            writer.string(String(decoding: text.finish(), as: UTF8.self))
            return
        }
        writeProcessor(to: &writer)
    }

    private func writeProcessor(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.member("arch", report.architecture)
            writer.member("model", report.cpuModel)
            writer.member("vendor", report.cpuVendor)
            writer.object("topology") { writer in
                writer.member("cells", report.cpuTopology.cells)
                writer.member("sockets", report.cpuTopology.sockets)
                writer.member("cores", report.cpuTopology.cores)
                writer.member("threads", report.cpuTopology.threads)
            }
            writer.array("features") { writer in
                for feature in report.cpuFeatures { writer.string(feature) }
            }
        }
    }
}
