public import Configuration

/// What the host's operator chooses of guests' hardware.
extension LibvirtDriverOptions {
    static let hardware: [AnyOption] = [
        cpuModels.erased, cpuFlags.erased, diskDiscard.erased, isTPMEnabled.erased, receiveQueueSize.erased,
        transmitQueueSize.erased, maximumQueues.erased, pciePorts.erased, translationCache.erased,
        isVNCEnabled.erased, vncListen.erased, pointer.erased, systemSerial.erased,
        isSerialConsoleEnabled.erased, serialPortRange.erased, serialAddress.erased,
    ]

    public static let cpuModels = Option<[String]>(
        "libvirt", "cpu_models", default: [],
        help: "With cpu_mode custom: CPU models in the order of preference; the first that the host can run is used.")

    public static let cpuFlags = Option<[String]>(
        "libvirt", "cpu_model_extra_flags", default: [],
        help: "CPU features that guests get beyond, or with a - before the name have taken from, the CPU of cpu_mode.",
        check: { flags in
            flags.allSatisfy(isCPUFlag) ? nil : "a list of names of CPU features, each with + or - before it or neither"
        })

    public static let diskDiscard = Option<DiscardMode?>(
        "libvirt", "hw_disk_discard", default: nil,
        help: "unmap: what a guest discards is given back to the host's file system. Unset: QEMU's own default.")

    public static let isTPMEnabled = Option(
        "libvirt", "swtpm_enabled", default: false,
        help: "Whether guests may have a TPM, emulated by swtpm. Its state lies unencrypted in libvirt's folders.")

    public static let receiveQueueSize = Option<Int?>(
        "libvirt", "rx_queue_size", default: nil, help: "Size of virtio NICs' receive queues.", check: queueSize)

    public static let transmitQueueSize = Option<Int?>(
        "libvirt", "tx_queue_size", default: nil, help: "Size of virtio NICs' transmit queues.", check: queueSize)

    public static let maximumQueues = Option<Int?>(
        "libvirt", "max_queues", default: nil,
        help: "The most queues of a NIC with hw:vif_multiqueue_enabled; unset means 256, what Linux has.",
        check: { $0.map { (1...256).contains($0) } ?? true ? nil : "1 to 256" })

    public static let pciePorts = Option(
        "libvirt", "num_pcie_ports", default: 0,
        help:
            "PCI Express ports of guests on q35 and virt, for devices plugged later. 0: as many as there are devices.",
        check: { (0...28).contains($0) ? nil : "0 to 28" })

    public static let translationCache = Option<Int?>(
        "libvirt", "tb_cache_size", default: nil,
        help: "MiB of the emulator's cache of translated code in each emulated guest; unset means QEMU's default.",
        check: { $0.map { $0 > 0 } ?? true ? nil : "a whole number from 1" })

    public static let isVNCEnabled = Option(
        "vnc", "enabled", default: true, help: "Whether guests have a screen, which VNC shows.")

    public static let vncListen = Option(
        "vnc", "server_listen", default: "127.0.0.1", help: "The host's address where guests' VNC servers listen.",
        check: { $0.isEmpty || $0.contains { $0.isWhitespace } ? "an address of the host" : nil })

    public static let pointer = Option<Pointer>(
        "DEFAULT", "pointer_model", default: .usbtablet, help: "The pointer of guests whose image names none.")

    public static let systemSerial = Option<SerialSource>(
        "libvirt", "sysinfo_serial", default: .unique,
        help:
            "The serial number that guests see: the instance's id (unique), the host's /etc/machine-id (os), the uuid "
            + "that libvirt has for the host (hardware), the first of the two that there is (auto), or none.")

    public static let isSerialConsoleEnabled = Option(
        "serial_console", "enabled", default: false,
        help: "Whether guests' serial ports can be reached by TCP; else they are terminals of the host.")

    public static let serialPortRange = Option(
        "serial_console", "port_range", default: "10000:20000",
        help: "FIRST:LAST of the host's TCP ports that guests' serial ports are given, the last one not among them.",
        check: { SerialConsole.ports($0) == nil ? "FIRST:LAST, from 1024 to 65536, the first below the last" : nil })

    public static let serialAddress = Option(
        "serial_console", "proxyclient_address", default: "127.0.0.1",
        help: "The host's address where guests' serial ports listen. Nothing there asks who connects.",
        check: { SerialConsole.isAddress($0) ? nil : "an IP address of the host" })

    private static func isCPUFlag(_ text: String) -> Bool {
        let name = text.first == "+" || text.first == "-" ? text.dropFirst() : text[...]
        return !name.isEmpty
            && name.utf8.allSatisfy { byte in
                (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
                    || "._-".utf8.contains(byte)
            }
    }

    private static func queueSize(_ size: Int?) -> String? {
        size.map { [256, 512, 1_024].contains($0) } ?? true ? nil : "256, 512 or 1024"
    }
}
