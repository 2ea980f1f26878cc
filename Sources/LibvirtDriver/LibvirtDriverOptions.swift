public import Configuration

/// The options of this target, under Nova's names where Nova has them.
public enum LibvirtDriverOptions {
    /// Who executes the guests' instructions.
    public enum VirtType: String, Sendable, CaseIterable, ChoiceOption {
        case auto, kvm, qemu
    }

    /// The processor that guests see.
    public enum CPUMode: String, Sendable, CaseIterable, ChoiceOption {
        case hostModel = "host-model"
        case hostPassthrough = "host-passthrough"
        case none
    }

    public static let connectionURI = Option(
        "libvirt", "connection_uri", default: "qemu:///system", help: "How to reach libvirt.",
        check: { $0.isEmpty ? "a libvirt connection URI" : nil })

    public static let virtType = Option<VirtType>(
        "libvirt", "virt_type", default: .auto,
        help:
            "kvm: hardware virtualization. qemu: emulation, many times slower. auto (the default, other than in Nova): "
            + "kvm when a guest really boots with it, else qemu, which the log then says.")

    public static let cpuMode = Option<CPUMode?>(
        "libvirt", "cpu_mode", default: nil,
        help: "The CPU that guests see; unset means host-model with kvm, and QEMU's own default (none) with qemu.")

    public static let machineType = Option<[String]>(
        "libvirt", "hw_machine_type", default: [],
        help: "Machine types by architecture, x86_64=q35; unset means pc on x86_64.",
        check: { entries in
            entries.allSatisfy { $0.split(separator: "=").count == 2 } ? nil : "a list of ARCHITECTURE=TYPE"
        })

    public static let diskCacheModes = Option<[String]>(
        "libvirt", "disk_cachemodes", default: [],
        help:
            "Cache modes by source, file=writethrough; unset means none where the file system allows it, else writeback.",
        check: { entries in
            entries.allSatisfy { entry in
                let parts = entry.split(separator: "=")
                return parts.count == 2 && ["file", "block", "network", "mount"].contains(parts[0])
                    && ["default", "none", "writethrough", "writeback", "directsync", "unsafe"].contains(parts[1])
            } ? nil : "a list of SOURCE=MODE (file=none, writethrough, writeback, directsync or unsafe)"
        })

    public static let randomDevice = Option(
        "libvirt", "rng_dev_path", default: "/dev/urandom", help: "Where guests' random number devices read from.",
        check: { $0.hasPrefix("/") ? nil : "an absolute path" })

    public static let memoryStatisticsPeriod = Option(
        "libvirt", "mem_stats_period_seconds", default: 10,
        help: "Seconds between a guest's memory statistics; 0 or less turns the balloon device off.")

    public static let instancesPath = Option(
        "DEFAULT", "instances_path", default: "$state_path/instances",
        help: "Folder of disks, config drives and console logs. QEMU's user must be able to reach it.",
        check: { $0.hasPrefix("/") || $0.hasPrefix("$state_path/") ? nil : "an absolute path" })

    public static let imageCacheFolder = Option(
        "image_cache", "subdirectory_name", default: "_base", help: "Folder of the image cache, under instances_path.",
        check: { $0.isEmpty || $0.contains("/") || $0.hasPrefix(".") ? "the name of one folder" : nil })

    public static let network = Option(
        "compute", "network", default: "libvirt:default",
        help: "Where the NICs of instances are plugged: libvirt:NAME (a libvirt network, which gives addresses) or "
            + "bridge:NAME.",
        check: { NetworkBinding($0) == nil ? NetworkBinding.allowed : nil })

    public static let spareAddresses = Option(
        "compute", "spare_addresses", default: 4,
        help:
            "Addresses of the libvirt network kept reserved ahead, since a reservation takes longer than the start of "
            + "a guest. 0: each is reserved when it is needed and released when its guest is deleted.",
        check: { (0...256).contains($0) ? nil : "0 to 256" })

    /// All of them, for `Configuration.load`.
    public static let all: [AnyOption] = [
        connectionURI.erased, virtType.erased, cpuMode.erased, machineType.erased, diskCacheModes.erased,
        randomDevice.erased, memoryStatisticsPeriod.erased, instancesPath.erased, imageCacheFolder.erased,
        network.erased, spareAddresses.erased,
    ]
}

extension LibvirtDriverOptions {
    /// The folder in force, with `$state_path` replaced.
    public static func resolvedInstancesPath(_ configuration: Configuration) -> String {
        let path = configuration[instancesPath]
        let prefix = "$state_path"
        let resolved =
            path.hasPrefix(prefix) ? configuration[CommonOptions.statePath] + path.dropFirst(prefix.count) : path
        return resolved.count > 1 && resolved.hasSuffix("/") ? String(resolved.dropLast()) : resolved
    }

    /// The mode configured for files, if any.
    static func cacheMode(_ configuration: Configuration) -> String? {
        configuration[diskCacheModes].lazy.compactMap { value(of: "file", in: $0) }.first
    }

    /// The machine type for an architecture.
    static func machine(_ configuration: Configuration, for architecture: String) -> String {
        configuration[machineType].lazy.compactMap { value(of: architecture, in: $0) }.first
            ?? (architecture == "x86_64" || architecture == "i686" ? "pc" : "virt")
    }

    private static func value(of key: String, in entry: String) -> String? {
        let parts = entry.split(separator: "=", maxSplits: 1)
        guard parts.count == 2, parts[0] == key else { return nil }
        return String(parts[1])
    }
}
