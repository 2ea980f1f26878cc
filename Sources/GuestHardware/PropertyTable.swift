/// The names that steer guests, by who gives them, each with the values it takes.
enum PropertyTable {
    static let flavorSpecs = table(.flavor)
    static let imageProperties = table(.image)

    /// Whether a flavor's spec is of the kind that this table must know.
    static func governs(spec name: String) -> Bool {
        governedSpecs.contains { name.hasPrefix($0) } || flavorSpecs[name] != nil || isResourceClass(name)
    }

    /// Whether a spec asks for an amount of a resource class: `resources:VGPU`, `resources_A:CUSTOM_NIC`.
    private static func isResourceClass(_ name: String) -> Bool {
        guard let colon = name.firstIndex(of: ":") else { return false }
        return name[..<colon].hasPrefix("resources")
    }

    /// Whether an image's property is of the kind that this table must know.
    static func governs(property name: String) -> Bool { name.hasPrefix("hw_") || imageProperties[name] != nil }

    /// The rule of a name; families of names share one.
    static func rule(_ setting: Setting) -> PropertyRule? {
        let isFlavor = setting.origin == .flavor
        if let rule = (isFlavor ? flavorSpecs : imageProperties)[setting.name] { return rule }
        if isFlavor, isResourceClass(setting.name) {
            return .unserved("an amount of a resource class")
        }
        let prefix = isFlavor ? "hw:" : "hw_"
        if isNumbered(setting.name, prefix + "numa_cpus.") { return .cpuList }
        if isNumbered(setting.name, prefix + "numa_mem.") { return .whole(1...(1 << 30)) }
        for (family, what) in unservedFamilies where setting.name.hasPrefix(prefix + family) { return .unserved(what) }
        return nil
    }

    /// Whether a name is `prefix` and the number of a guest's cell.
    private static func isNumbered(_ name: String, _ prefix: String) -> Bool {
        guard name.hasPrefix(prefix), let number = Int(name.dropFirst(prefix.count)) else { return false }
        return (0..<TopologyRequest.cellLimit).contains(number) && name == prefix + String(number)
    }

    private static let governedSpecs = ["hw:", "quota:", "hw_rng:", "hw_video:", "os:", "pci_passthrough:", "accel:"]

    private static func table(_ origin: HardwareError.Origin) -> [String: PropertyRule] {
        let isFlavor = origin == .flavor
        var rules: [String: PropertyRule] = [:]
        for (name, rule) in paired { rules[(isFlavor ? "hw:" : "hw_") + name] = rule }
        for (name, what) in unserved { rules[(isFlavor ? "hw:" : "hw_") + name] = .unserved(what) }
        rules[isFlavor ? "os:secure_boot" : "os_secure_boot"] = .choice(SecureBoot.self)
        rules.merge(isFlavor ? flavorOnly : imageOnly) { $1 }
        return rules
    }

    static let count = 1...65_536

    /// `hw:NAME` of a flavor and `hw_NAME` of an image.
    private static let paired: [(String, PropertyRule)] = [
        ("cpu_sockets", .whole(count)), ("cpu_cores", .whole(count)), ("cpu_threads", .whole(count)),
        ("cpu_max_sockets", .whole(count)), ("cpu_max_cores", .whole(count)), ("cpu_max_threads", .whole(count)),
        ("cpu_policy", .choice(["shared", "dedicated", "mixed"])),
        ("cpu_thread_policy", .choice(TopologyRequest.ThreadPolicy.self)),
        ("mem_page_size", .pageSize), ("pci_numa_affinity_policy", .choice(PassthroughHardware.Policy.self)),
        ("numa_nodes", .whole(1...TopologyRequest.cellLimit)), ("locked_memory", .flag),
        ("pmu", .flag), ("boot_menu", .flag),
        ("maxphysaddr_mode", .choice(AddressWidthMode.self)), ("maxphysaddr_bits", .whole(32...64)),
        ("viommu_model", .choice(IOMMUModel.self)), ("vif_multiqueue_enabled", .flag), ("virtio_packed_ring", .flag),
        ("watchdog_action", .choice(WatchdogAction.self)), ("serial_port_count", .whole(1...4)),
        ("tpm_version", .choice(TPMVersion.self)), ("tpm_model", .choice(TPMModel.self)),
        ("sound_model", .choice(SoundModel.self)), ("usb_model", .choice(USBModel.self)),
    ]

    private static let imageOnly: [String: PropertyRule] = [
        "hw_machine_type": .name, "hw_firmware_type": .choice(Firmware.self), "hw_firmware_stateless": .flag,
        "hw_vm_mode": .choice(["hvm"]), "hw_disk_bus": .choice(DiskBus.self), "hw_cdrom_bus": .choice(CDROMBus.self),
        "hw_scsi_model": .choice(SCSIModel.self), "hw_vif_model": .choice(NICModel.self),
        "hw_video_model": .choice(VideoModel.self), "hw_video_ram": .whole(0...65_536),
        "hw_rng_model": .choice(["virtio"]), "hw_pointer_model": .choice(PointerModel.self),
        "hw_input_bus": .choice(InputBus.self), "hw_qemu_guest_agent": .flag, "hw_time_hpet": .flag,
        "hw_rescue_device": .choice(RescueDevice.self), "hw_rescue_bus": .choice(DiskBus.self),
        "img_hide_hypervisor_id": .flag, "img_config_drive": .choice(ConfigDriveWish.self),
        "os_type": .text, "os_admin_user": .text, "os_require_quiesce": .flag,
        "os_shutdown_timeout": .whole(0...86_400),
        "hw_architecture": .choice(Architecture.names), "architecture": .choice(Architecture.names),
        "kernel_id": .unserved(directKernel), "ramdisk_id": .unserved(directKernel),
        "os_command_line": .unserved(directKernel),
    ].merging(withoutEffect) { $1 }

    private static let directKernel = "booting a kernel from an image of its own"

    /// What Nova knows and its libvirt driver, like this one, makes nothing of: no guest has a floppy, and iPXE and the
    /// growing of partitions from outside were another hypervisor's.
    private static let withoutEffect: [String: PropertyRule] = [
        "hw_floppy_bus": .choice(["fdc", "ide", "sata", "scsi", "usb", "virtio"]), "hw_ipxe_boot": .flag,
        "hw_auto_disk_config": .flag, "auto_disk_config": .text, "hw_disk_type": .text,
    ]

    private static let flavorOnly: [String: PropertyRule] = {
        var rules: [String: PropertyRule] = [
            "hw:hide_hypervisor_id": .flag,
            "quota:cpu_shares": .whole(1...262_144), "quota:cpu_period": .whole(1_000...1_000_000),
            "quota:cpu_quota": .limit(1_000...17_592_186_044_415),
            "hw_rng:allowed": .flag, "hw_rng:rate_bytes": .whole(0...Int(Int32.max)),
            "hw_rng:rate_period": .whole(1...Int(Int32.max)), "hw_video:ram_max_mb": .whole(0...65_536),
            "hw:cpu_dedicated_mask": .cpuList,
            "hw:emulator_threads_policy": .choice(TopologyRequest.EmulatorPolicy.self),
            "pci_passthrough:alias": .aliases, "resources:VGPU": .whole(0...PassthroughHardware.limit),
            "accel:device_profile": .unserved("an accelerator"),
        ]
        for access in ["read", "write", "total"] {
            for unit in ["bytes", "iops"] {
                rules["quota:disk_\(access)_\(unit)_sec"] = .whole(0...1_000_000_000_000_000)
            }
        }
        for direction in ["inbound", "outbound"] {
            for figure in ["average", "peak", "burst"] {
                rules["quota:vif_\(direction)_\(figure)"] = .whole(0...Int(UInt32.max / 1_024))
            }
        }
        return rules
    }()

    private static let unserved: [(String, String)] = [
        ("cpu_realtime", "real-time scheduling"), ("cpu_realtime_mask", "real-time scheduling"),
        ("pmem", "persistent memory"),
        ("mem_encryption", "encryption of memory"), ("mem_encryption_model", "encryption of memory"),
        ("tpm_secret_security", "a secret store for TPM state"), ("redirected_usb_ports", "USB redirection"),
        ("emulation_architecture", "emulation of another architecture"),
    ]

    private static let unservedFamilies: [(String, String)] = [
        ("ephemeral_encryption", "encryption of local disks")
    ]
}
