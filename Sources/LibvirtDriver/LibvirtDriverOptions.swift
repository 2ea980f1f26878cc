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
        case maximum, custom, none
    }

    /// Whether guests' discards give space back.
    public enum DiscardMode: String, Sendable, CaseIterable, ChoiceOption {
        case ignore, unmap
    }

    /// Where guests' serial numbers come from.
    public enum SerialSource: String, Sendable, CaseIterable, ChoiceOption {
        case unique, os, hardware, auto, none
    }

    /// How pointers tell where they are.
    public enum Pointer: String, Sendable, CaseIterable, ChoiceOption {
        case usbtablet, ps2mouse
    }

    /// How the disks of guests are kept.
    public enum ImagesType: String, Sendable, CaseIterable, ChoiceOption {
        case `default`, qcow2, raw, flat
    }

    /// What is reserved of a disk when it is made.
    public enum Preallocation: String, Sendable, CaseIterable, ChoiceOption {
        case none, space
    }

    /// What ephemeral disks are formatted with.
    public enum FileSystem: String, Sendable, CaseIterable, ChoiceOption {
        case vfat, ext2, ext3, ext4, xfs, ntfs
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

    public static let imagesType = Option<ImagesType>(
        "libvirt", "images_type", default: .default,
        help:
            "qcow2: disks are overlays on the cached image. raw, flat: full copies of it. default: as use_cow_images "
            + "says. A disk keeps the format that it was made with.")

    public static let useCowImages = Option(
        "DEFAULT", "use_cow_images", default: true, help: "With images_type default: true is qcow2, false is raw.")

    public static let forceRawImages = Option(
        "DEFAULT", "force_raw_images", default: true,
        help: "The cache's bases are always written afresh as raw files, so nothing else is possible here.",
        check: { $0 ? nil : "true" })

    public static let preallocateImages = Option<Preallocation>(
        "DEFAULT", "preallocate_images", default: .none,
        help: "space: a disk's whole size is reserved on the file system when it is made (fallocate).")

    public static let defaultEphemeralFormat = Option<FileSystem?>(
        "DEFAULT", "default_ephemeral_format", default: nil,
        help:
            "What ephemeral disks are formatted with: vfat, ext2, ext3, ext4, xfs or ntfs. Unset: by the image's "
            + "os_type, ext4 for linux, ntfs for windows, else vfat.")

    public static let imagesCPUTimeLimit = Option(
        "libvirt", "images_cpu_time_limit", default: Duration.seconds(30),
        help: "CPU time that qemu-img may take over an image of a user; 8 s more for each GiB of its disk.",
        check: { $0 >= .seconds(1) && $0 <= .seconds(86_400) ? nil : "1 to 86400 s" })

    public static let imagesAddressSpaceLimit = Option(
        "libvirt", "images_address_space_limit_mb", default: 2_048,
        help: "MiB of address space that qemu-img may take over an image of a user.",
        check: { (256...1_048_576).contains($0) ? nil : "256 to 1048576" })

    public static let removeUnusedBaseImages = Option(
        "image_cache", "remove_unused_base_images", default: true,
        help: "Whether images that no disk stands on any more leave the cache.")

    public static let removeUnusedOriginalAge = Option(
        "image_cache", "remove_unused_original_minimum_age_seconds", default: Duration.seconds(86_400),
        help:
            "How long an image that no disk stands on stays in the cache; at least 600 s, as a launch may be about to "
            + "use it.",
        check: { $0 >= .zero ? nil : "0 or more" })

    public static let removeUnusedResizedAge = Option(
        "image_cache", "remove_unused_resized_minimum_age_seconds", default: Duration.seconds(3_600),
        help: "The same for the templates of ephemeral and swap disks.", check: { $0 >= .zero ? nil : "0 or more" })

    public static let dhcpDomain = CommonOptions.dhcpDomain

    public static let vendorDataPath = Option(
        "api", "vendordata_jsonfile_path", default: "",
        help: "File with a JSON object that every config drive has as vendor_data.json.",
        check: { $0.isEmpty || $0.hasPrefix("/") ? nil : "an absolute path, or nothing" })

    public static let deviceDetachAttempts = Option(
        "libvirt", "device_detach_attempts", default: 8,
        help: "How often a guest is asked to let go of a device.",
        check: { (1...100).contains($0) ? nil : "1 to 100" })

    public static let deviceDetachTimeout = Option(
        "libvirt", "device_detach_timeout", default: Duration.seconds(20),
        help: "How long a guest may take each time.",
        check: { $0 >= .seconds(1) && $0 <= .seconds(600) ? nil : "1 to 600 s" })

    public static let network = Option(
        "compute", "network", default: "libvirt:default",
        help: "Where the NICs of instances are plugged: libvirt:NAME (a libvirt network, which gives addresses) or "
            + "bridge:NAME.",
        check: { NetworkBinding($0) == nil ? NetworkBinding.allowed : nil })

    public static let spareAddresses = Option(
        "compute", "spare_addresses", default: 32,
        help:
            "Addresses of the libvirt network kept reserved ahead, since a reservation takes longer than the start of "
            + "a guest; never more than a quarter of those that the network gives out. 0: each is reserved when it is needed and released when its guest is deleted.",
        check: { (0...256).contains($0) ? nil : "0 to 256" })

    /// All of them, for `Configuration.load`.
    public static let all: [AnyOption] =
        [
            connectionURI.erased, virtType.erased, cpuMode.erased, machineType.erased, diskCacheModes.erased,
            randomDevice.erased, memoryStatisticsPeriod.erased, instancesPath.erased, imageCacheFolder.erased,
            network.erased, spareAddresses.erased, imagesType.erased, useCowImages.erased, forceRawImages.erased,
            preallocateImages.erased, defaultEphemeralFormat.erased, imagesCPUTimeLimit.erased,
            imagesAddressSpaceLimit.erased, removeUnusedBaseImages.erased, removeUnusedOriginalAge.erased,
            removeUnusedResizedAge.erased, dhcpDomain.erased, vendorDataPath.erased, deviceDetachAttempts.erased,
            deviceDetachTimeout.erased,
        ] + hardware + LiveOptions.all
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
