public import Configuration
internal import HTTP
internal import HostTopology
internal import Model
internal import PCIDevices
internal import RPC

/// The agent's options, under Nova's names where Nova has them.
public enum ComputeOptions {
    public static let myIP = Option(
        "DEFAULT", "my_ip", default: "",
        help: "This host's management address, as hypervisor lists show it. Empty: the address of [compute] listen.")
    public static let reportInterval = Option(
        "DEFAULT", "report_interval", default: Duration.seconds(10), help: "Time between heartbeats.",
        check: { $0 >= .milliseconds(100) && $0 <= .seconds(300) ? nil : "0.1 s to 300 s" })
    public static let updateResourcesInterval = Option(
        "DEFAULT", "update_resources_interval", default: Duration.zero,
        help: "Time between audits of the host's resources, each with a report. 0: 60 s; negative: none.")
    public static let syncPowerStateInterval = Option(
        "DEFAULT", "sync_power_state_interval", default: Duration.seconds(600),
        help: "Time between comparisons of every guest with its record. 0: 60 s; negative: none.")
    public static let instanceDeleteInterval = Option(
        "DEFAULT", "instance_delete_interval", default: Duration.seconds(300),
        help: "Time between attempts to remove what a failed removal left. 0: 60 s; negative: none.")
    public static let imageCacheInterval = Option(
        "image_cache", "manager_interval", default: Duration.seconds(2_400),
        help: "Time between looks for images in the cache that nothing uses. 0: 60 s; negative: none.")
    public static let consoleLogInterval = Option(
        "compute", "console_log_limit_interval", default: Duration.seconds(300),
        help: "Time between looks at how much the guests' console logs take. 0: 60 s; negative: none.")
    public static let consoleLogLimitMiB = Option(
        "compute", "console_log_limit_mb", default: 16,
        help: "MiB that a guest's console log may take; of one that takes more the last half is kept.",
        check: { (1...65_536).contains($0) ? nil : "1 to 65536" })
    public static let periodicFuzzyDelay = Option(
        "DEFAULT", "periodic_fuzzy_delay", default: Duration.seconds(60),
        help: "The first run of a periodic task comes after a random part of this.",
        check: { $0 >= .zero && $0 <= .seconds(86_400) ? nil : "0 to 86400 s" })
    public static let maximumDeleteAttempts = Option(
        "DEFAULT", "maximum_instance_delete_attempts", default: 5,
        help: "How often the removal of what a failed removal left is tried, in one life of the agent.",
        check: { (1...1_000_000).contains($0) ? nil : "1 to 1000000" })
    public static let healNetworkInterval = Option(
        "DEFAULT", "heal_instance_info_cache_interval", default: Duration.seconds(-1),
        help: "Time between two guests whose interfaces are told to the conductor again. 0 or negative: none.")
    public static let maxConcurrentBuilds = Option(
        "DEFAULT", "max_concurrent_builds", default: 10, help: "How many builds may run at once.",
        check: { (1...1_000).contains($0) ? nil : "1 to 1000" })
    public static let maxConcurrentSnapshots = Option(
        "DEFAULT", "max_concurrent_snapshots", default: 5, help: "How many copies of disks may be made at once.",
        check: { (1...1_000).contains($0) ? nil : "1 to 1000" })
    public static let maxConcurrentLiveMigrations = Option(
        "DEFAULT", "max_concurrent_live_migrations", default: 2,
        help: "How many guests may be sent to other hosts at once while they run.",
        check: { (1...100).contains($0) ? nil : "1 to 100" })
    public static let shutdownTimeout = Option(
        "DEFAULT", "shutdown_timeout", default: Duration.seconds(60),
        help: "How long a guest may take to shut down before it is powered off.",
        check: { $0 >= .zero && $0 <= .seconds(3_600) ? nil : "0 to 3600 s" })
    public static let waitSoftReboot = Option(
        "libvirt", "wait_soft_reboot_seconds", default: Duration.seconds(120),
        help: "How long a guest may take to reboot by itself before it is reset.",
        check: { $0 >= .zero && $0 <= .seconds(3_600) ? nil : "0 to 3600 s" })

    public static let resumeGuestsOnHostBoot = Option(
        "DEFAULT", "resume_guests_state_on_host_boot", default: false,
        help: "Whether guests that ran when the host went down are started when it is up again.")

    public static let runningDeletedAction = Option(
        "DEFAULT", "running_deleted_instance_action", default: RunningDeletedAction.log.rawValue,
        help: "What is done with guests whose instance the database says is deleted: nothing (noop), a line in the "
            + "log, shutdown, or removal (reap).",
        check: {
            RunningDeletedAction(rawValue: $0) == nil
                ? "one of " + RunningDeletedAction.allCases.map(\.rawValue).joined(separator: ", ") : nil
        })
    public static let runningDeletedPollInterval = Option(
        "DEFAULT", "running_deleted_instance_poll_interval", default: Duration.seconds(1_800),
        help: "Time between looks for guests whose instance is deleted. 0: none.",
        check: { $0 >= .zero ? nil : "0 or more seconds" })
    public static let runningDeletedTimeout = Option(
        "DEFAULT", "running_deleted_instance_timeout", default: Duration.zero,
        help: "How long an instance must have been deleted before anything is done with its guest.",
        check: { $0 >= .zero ? nil : "0 or more seconds" })

    public static let journalTrimInterval = Option(
        "compute", "journal_trim_interval", default: Duration.seconds(3_600),
        help: "Time between looks for ended operations that the journal may forget. 0: 60 s; negative: none.")
    public static let journalRetention = Option(
        "compute", "journal_retention", default: Duration.seconds(86_400),
        help: "How long the journal keeps operations that have ended.",
        check: { $0 >= .seconds(3_600) && $0 <= .seconds(3_650 * 86_400) ? nil : "1 hour to 10 years" })

    public static let cpuAllocationRatio = Option(
        "DEFAULT", "cpu_allocation_ratio", default: Double?.none,
        help: "How many vCPUs are promised for one processor. Empty: as at the host's first start.",
        check: isRatioOrNone)
    public static let ramAllocationRatio = Option(
        "DEFAULT", "ram_allocation_ratio", default: Double?.none,
        help: "How far memory is promised beyond what is there. Empty: as at the host's first start.",
        check: isRatioOrNone)
    public static let diskAllocationRatio = Option(
        "DEFAULT", "disk_allocation_ratio", default: Double?.none,
        help: "How far disk is promised beyond what is there. Empty: as at the host's first start.",
        check: isRatioOrNone)
    public static let initialCPUAllocationRatio = Option(
        "DEFAULT", "initial_cpu_allocation_ratio", default: 4.0,
        help: "cpu_allocation_ratio of a host that starts for the first time without one.", check: isRatio)
    public static let initialRAMAllocationRatio = Option(
        "DEFAULT", "initial_ram_allocation_ratio", default: 1.0,
        help: "ram_allocation_ratio of a host that starts for the first time without one.", check: isRatio)
    public static let initialDiskAllocationRatio = Option(
        "DEFAULT", "initial_disk_allocation_ratio", default: 1.0,
        help: "disk_allocation_ratio of a host that starts for the first time without one.", check: isRatio)
    public static let computeMonitors = Option(
        "DEFAULT", "compute_monitors", default: [String](),
        help: "What is measured of the host for the scheduler's metrics. cpu.virt_driver: its processors' times.",
        check: { $0.allSatisfy { $0 == "cpu.virt_driver" } ? nil : "cpu.virt_driver, or nothing" })
    public static let reservedHostMemoryMB = Option(
        "DEFAULT", "reserved_host_memory_mb", default: 512, help: "MiB of memory that are the host's own.",
        check: isAmount)
    /// QEMU's own memory beside the guest's: code, device models, page tables, buffers. 64 MiB is what a guest with two
    /// vCPUs and a plain console takes; what guests took in all can be seen in their processes' PSS.
    public static let memoryOverheadMiB = Option(
        "compute", "memory_overhead_mib", default: 64,
        help: "MiB of memory that each guest takes beside its flavor's; part of its claim.", check: isAmount)
    public static let reservedHostDiskMB = Option(
        "DEFAULT", "reserved_host_disk_mb", default: 0, help: "MiB of disk that are the host's own.", check: isAmount)
    public static let reservedHostCPUs = Option(
        "DEFAULT", "reserved_host_cpus", default: 0, help: "Processors that are the host's own.", check: isAmount)

    public static let cpuSharedSet = Option(
        "compute", "cpu_shared_set", default: "",
        help: "The host's CPUs for vCPUs that share (4-12,^8,15). Empty: all, or none where cpu_dedicated_set is set.",
        check: isCPUSet)
    public static let cpuDedicatedSet = Option(
        "compute", "cpu_dedicated_set", default: "",
        help: "The host's CPUs for vCPUs that get one for themselves (hw:cpu_policy). Empty: none.", check: isCPUSet)
    public static let reservedHugePages = Option(
        "DEFAULT", "reserved_huge_pages", default: "",
        help: "Huge pages that are the host's own: node:0,size:2048,count:64; several are separated by semicolons.",
        check: { text in
            text.split(separator: ";").allSatisfy { HugePageReserve(parsing: String($0)) != nil }
                ? nil : "node:N,size:KIB,count:N, several separated by semicolons"
        })

    public static let deviceSpec = Option(
        "pci", "device_spec", default: "",
        help: "The PCI devices that guests may have: a JSON object, or a list of them, with vendor_id, product_id and "
            + "address (0000:81:*.*). Empty: none.",
        check: { text in wrong { () throws(PCIError) in _ = try DeviceSpec.list(parsing: text) } })
    public static let pciAlias = Option(
        "pci", "alias", default: "",
        help: "The names by which flavors ask for PCI devices: a JSON object, or a list of them, with name, vendor_id, "
            + "product_id, device_type and numa_policy.",
        check: { text in wrong { () throws(PCIError) in _ = try PCIAlias.list(parsing: text) } })

    public static let enabledMediatedTypes = Option(
        "devices", "enabled_mdev_types", default: [String](),
        help: "The types of mediated devices that flavors with resources:VGPU get (nvidia-35). A physical device gives "
            + "the first that it knows. Every mediated device of that type is the agent's to give and to remove. "
            + "Empty: none.",
        check: { types in wrong { () throws(PCIError) in try MediatedDeviceTypes.check(types) } })
    public static let mediatedTypeAddresses = Option(
        "devices", "mdev_type_addresses", default: "",
        help: "The physical devices that give a certain type: "
            + "nvidia-36=0000:84:00.0,0000:85:00.0;nvidia-35=0000:86:00.0. In place of Nova's groups [mdev_TYPE] "
            + "with device_addresses, since names of options are fixed here.",
        check: { text in wrong { () throws(PCIError) in _ = try MediatedDeviceTypes.assignments(parsing: text) } })

    public static let servesMetadata = Option(
        "compute", "metadata_service", default: true,
        help: "Whether guests are told of themselves on 169.254.169.254, which is added to their bridges.")
    public static let metadataCacheExpiration = Option(
        "api", "metadata_cache_expiration", default: Duration.seconds(15),
        help: "How long what a guest is told may be behind what the user has changed.",
        check: { $0 >= .zero && $0 <= .seconds(3_600) ? nil : "0 to 3600 s" })

    public static let listen = Option(
        "compute", "listen", default: "127.0.0.1:8783", help: "Address and port of the agent's RPC.",
        check: { (try? ListenAddress($0)) == nil ? "ADDRESS:PORT, an IPv6 address in brackets" : nil })
    public static let conductors = Option(
        "compute", "conductors", default: [String](),
        help: "URLs of the conductors, which share the calls. Empty: the one that this host joined.")
    public static let liveMigrationPorts = Option(
        "compute", "live_migration_ports", default: "49152:49215",
        help:
            "FIRST:LAST of the ports at which guests come in while they run: one for each, open for as long as it takes, on "
            + "the address of [compute] listen.",
        check: { portRange($0) == nil ? "FIRST:LAST, 1024 to 65535" : nil })
    public static let recoveryTimeout = Option(
        "compute", "recovery_timeout", default: Duration.seconds(60),
        help: "How long the agent finishes or undoes interrupted operations before it reports itself up all the same.")
    /// All of them, for `Configuration.load`.
    public static let all: [AnyOption] =
        CommonOptions.all + [
            myIP.erased, reportInterval.erased, updateResourcesInterval.erased,
            syncPowerStateInterval.erased, instanceDeleteInterval.erased, imageCacheInterval.erased,
            periodicFuzzyDelay.erased, CommonOptions.periodicEnable.erased, maximumDeleteAttempts.erased,
            healNetworkInterval.erased, consoleLogInterval.erased, consoleLogLimitMiB.erased,
            maxConcurrentBuilds.erased, maxConcurrentSnapshots.erased, maxConcurrentLiveMigrations.erased,
            shutdownTimeout.erased, waitSoftReboot.erased,
            cpuAllocationRatio.erased,
            ramAllocationRatio.erased, diskAllocationRatio.erased, initialCPUAllocationRatio.erased,
            initialRAMAllocationRatio.erased, initialDiskAllocationRatio.erased, computeMonitors.erased,
            reservedHostMemoryMB.erased, memoryOverheadMiB.erased,
            deviceSpec.erased, pciAlias.erased, enabledMediatedTypes.erased, mediatedTypeAddresses.erased,
            servesMetadata.erased, metadataCacheExpiration.erased,
            cpuSharedSet.erased, cpuDedicatedSet.erased,
            reservedHugePages.erased,
            reservedHostDiskMB.erased, reservedHostCPUs.erased, listen.erased, conductors.erased,
            recoveryTimeout.erased, liveMigrationPorts.erased, resumeGuestsOnHostBoot.erased,
            journalTrimInterval.erased, journalRetention.erased,
            runningDeletedAction.erased, runningDeletedPollInterval.erased, runningDeletedTimeout.erased,
            Monitoring.listen.erased,
        ]
}

/// Whether the host of an `http(s)://` URL is of this machine alone. No for anything that programs read differently.
func isLoopbackURL(_ url: String) -> Bool {
    guard let scheme = url.firstRange(of: "://") else { return false }
    let authority = url[scheme.upperBound...].prefix { $0 != "/" && $0 != "?" && $0 != "#" }
    guard !authority.contains(where: { $0 == "@" || $0 == "\\" }) else { return false }
    if authority.hasPrefix("[") {
        return ListenAddress.isLoopback(String(authority.dropFirst().prefix { $0 != "]" }))
    }
    return ListenAddress.isLoopback(String(authority.prefix { $0 != ":" }))
}

@Sendable private func isRatio(_ value: Double) -> String? {
    value > 0 && value <= 1_000 ? nil : "more than 0, at most 1000"
}

@Sendable private func isRatioOrNone(_ value: Double?) -> String? { value.flatMap { isRatio($0) } }

@Sendable private func wrong(_ read: () throws(PCIError) -> Void) -> String? {
    do {
        try read()
        return nil
    } catch {
        return error.description
    }
}

@Sendable private func isCPUSet(_ text: String) -> String? {
    text.isEmpty || CPUSet(parsing: text) != nil ? nil : "numbers and ranges: 4-12,^8,15"
}

@Sendable private func isAmount(_ value: Int) -> String? {
    (0...1_000_000_000).contains(value) ? nil : "0 or more"
}

extension ComputeOptions {
    /// `nil` for what is no FIRST:LAST.
    static func portRange(_ text: String) -> ClosedRange<UInt16>? {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false).map { UInt16($0) }
        guard parts.count == 2, let first = parts[0], let last = parts[1], first >= 1_024, first <= last else {
            return nil
        }
        return first...last
    }
}
