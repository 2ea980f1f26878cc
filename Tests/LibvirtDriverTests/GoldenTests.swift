import Compute
import Foundation
import GuestHardware
import HostTopology
import Model
import Testing
import XML

@testable import LibvirtDriver

/// What steers one guest whose whole document is kept in `Golden`. A test of the hypervisor tier gives each of them to
/// a real libvirt.
struct GoldenGuest: Sendable, CustomStringConvertible {
    let name: String
    let specs: [String: String]
    let properties: [String: String]
    var vcpus = 2
    /// The properties of the image that the guest is rescued with; `nil` for one that is not.
    var rescue: [String: String]?
    /// Where it is on its host's cells.
    var placement: TopologyPlacement?
    /// The host's devices that are its own.
    var devices: [PCIDevice]?
    /// Its shares of them.
    var mediatedDevices: [MediatedDevice]?
    let settings: DomainSettings

    init(
        _ name: String, _ specs: [String: String] = [:], _ properties: [String: String] = [:], vcpus: Int = 2,
        virtType: String = "kvm", rescue: [String: String]? = nil, placement: TopologyPlacement? = nil,
        devices: [PCIDevice]? = nil, mediatedDevices: [MediatedDevice]? = nil,
        _ change: (inout DomainSettings) -> Void = { _ in }
    ) {
        (self.placement, self.devices, self.mediatedDevices) = (placement, devices, mediatedDevices)
        (self.name, self.specs, self.properties, self.vcpus) = (name, specs, properties, vcpus)
        self.rescue = rescue
        var settings = Sample.settings(virtType: virtType)
        change(&settings)
        self.settings = settings
    }

    var description: String { name }

    static let all = [
        GoldenGuest("plain"),
        GoldenGuest("emulated", virtType: "qemu") { settings in
            settings.memoryStatisticsPeriod = 0
            settings.translationCacheMiB = 64
        },
        GoldenGuest("headless", ["hw_rng:allowed": "false"]) { settings in
            settings.vncAddress = nil
            settings.network = .bridge("br0")
        },
        GoldenGuest("uefi", [:], ["hw_firmware_type": "uefi", "hw_machine_type": "q35", "hw_boot_menu": "true"]),
        GoldenGuest(
            "uefi-stateless", [:],
            ["hw_firmware_type": "uefi", "hw_firmware_stateless": "yes", "hw_machine_type": "q35"]),
        GoldenGuest(
            "secure-boot", ["os:secure_boot": "required"], ["hw_firmware_type": "uefi", "hw_machine_type": "q35"]),
        GoldenGuest(
            "processor-shares",
            [
                "quota:cpu_shares": "512", "quota:cpu_quota": "50000", "quota:cpu_period": "100000",
                "hw:cpu_max_sockets": "2", "hw:pmu": "false",
            ], [:], vcpus: 6),
        GoldenGuest(
            "processor-custom", ["hw:maxphysaddr_mode": "emulate", "hw:maxphysaddr_bits": "42"],
            ["hw_cpu_threads": "2"], vcpus: 4
        ) { settings in
            settings.cpu = CPUSettings(
                mode: .custom, model: "Nehalem",
                features: [.init(name: "aes", isRequired: true), .init(name: "x2apic", isRequired: false)])
        },
        GoldenGuest("processor-passthrough", ["hw:maxphysaddr_mode": "passthrough"]) {
            $0.cpu = CPUSettings(mode: .hostPassthrough)
        },
        GoldenGuest("processor-maximum", virtType: "qemu") { $0.cpu = CPUSettings(mode: .maximum) },
        GoldenGuest(
            "disks-scsi", ["quota:disk_read_bytes_sec": "1048576", "quota:disk_total_iops_sec": "500"],
            ["hw_disk_bus": "scsi", "hw_cdrom_bus": "scsi", "hw_scsi_model": "virtio-scsi"]
        ) { $0.diskDiscard = "unmap" },
        GoldenGuest(
            "disks-ide",
            [
                "quota:disk_total_bytes_sec": "1048576", "quota:disk_read_iops_sec": "100",
                "quota:disk_write_iops_sec": "50",
            ], ["hw_disk_bus": "ide"]),
        GoldenGuest("disks-usb", [:], ["hw_disk_bus": "usb", "hw_cdrom_bus": "usb", "hw_machine_type": "q35"]),
        GoldenGuest("disks-sata", [:], ["hw_disk_bus": "sata", "hw_machine_type": "q35"]),
        GoldenGuest(
            "nics-limited",
            [
                "quota:vif_inbound_average": "1000", "quota:vif_inbound_peak": "2000", "quota:vif_inbound_burst": "512",
                "quota:vif_outbound_average": "500",
            ], ["hw_vif_model": "e1000"]),
        GoldenGuest(
            "nics-queues", ["hw:vif_multiqueue_enabled": "true"], ["hw_virtio_packed_ring": "true"], vcpus: 4
        ) { settings in
            settings.nics = NICSettings(receiveQueueSize: 512, transmitQueueSize: 256, queueLimit: 3)
        },
        GoldenGuest(
            "windows", ["hw:hide_hypervisor_id": "true"],
            ["os_type": "windows", "hw_time_hpet": "true", "hw_video_model": "vga"]),
        GoldenGuest(
            "screen", ["hw_video:ram_max_mb": "64", "hw:sound_model": "ich9"],
            ["hw_video_model": "qxl", "hw_video_ram": "32", "hw_input_bus": "usb", "hw_usb_model": "qemu-xhci"]),
        GoldenGuest("input-virtio", [:], ["hw_input_bus": "virtio", "hw_pointer_model": "usbtablet"]),
        GoldenGuest("input-mouse", [:], ["hw_pointer_model": "ps2mouse", "hw_video_model": "none"]),
        GoldenGuest(
            "devices",
            [
                "hw_rng:rate_bytes": "2048", "hw_rng:rate_period": "500", "hw:watchdog_action": "reset",
                "hw:serial_port_count": "3",
            ], ["hw_qemu_guest_agent": "yes"]),
        GoldenGuest("serial-tcp", ["hw:serial_port_count": "2"]) {
            $0.serialConsole = SerialConsole(address: "127.0.0.1", ports: 10_000..<10_100)
        },
        GoldenGuest("tpm", ["hw:tpm_version": "2.0", "hw:tpm_model": "tpm-crb"]) { $0.isTPMEnabled = true },
        GoldenGuest("tpm-1.2", ["hw:tpm_version": "1.2"]) { $0.isTPMEnabled = true },
        GoldenGuest("rescue", rescue: [:]),
        GoldenGuest("rescue-stable-disk", rescue: ["hw_rescue_device": "disk"]),
        GoldenGuest(
            "rescue-stable-cdrom", [:], ["hw_machine_type": "q35"], rescue: ["hw_rescue_device": "cdrom"]),
        GoldenGuest(
            "rescue-stable-scsi", [:], ["hw_disk_bus": "scsi", "hw_scsi_model": "virtio-scsi"],
            rescue: ["hw_rescue_bus": "scsi"]),
        GoldenGuest("rescue-stable-usb", rescue: ["hw_rescue_device": "cdrom", "hw_rescue_bus": "usb"]),
        GoldenGuest("iommu-intel", ["hw:viommu_model": "intel"], ["hw_machine_type": "q35"]),
        GoldenGuest(
            "host-devices", ["pci_passthrough:alias": "nic:1,gpu:1"],
            devices: [
                PCIDevice(address: "0000:02:10.7", vendorID: "8086", productID: "10ca", kind: .virtualFunction),
                PCIDevice(address: "0001:81:00.0", vendorID: "10de", productID: "1eb8", kind: .plain),
            ]),
        GoldenGuest(
            "mediated-devices", ["resources:VGPU": "2"],
            mediatedDevices: [
                MediatedDevice(
                    parentAddress: "0000:3b:00.0", type: "nvidia-294", uuid: "e55bf865-6983-4d53-967f-51e8a3bb0f57"),
                MediatedDevice(
                    parentAddress: "0000:86:00.0", type: "nvidia-294", uuid: "3131f5fd-7c04-4a61-92c1-0c37f9547b6b"),
            ]),
        GoldenGuest("shared-set") { $0.sharedCPUs = CPUSet([0, 1, 2, 5]) },
        GoldenGuest("cells", ["hw:numa_nodes": "2"], vcpus: 4, placement: .swapped),
        GoldenGuest("pinned", ["hw:cpu_policy": "dedicated", "quota:cpu_shares": "512"], placement: .pinned),
        GoldenGuest(
            "huge-pages", ["hw:mem_page_size": "2MB", "hw:locked_memory": "true"], placement: .hugePages),
        GoldenGuest("iommu-auto", ["hw:viommu_model": "auto"], ["hw_machine_type": "q35"]) { $0.pciePorts = 4 },
    ]
}

extension TopologyPlacement {
    /// Two cells, swapped, whose vCPUs share.
    static let swapped = TopologyPlacement(
        cells: [
            .init(
                hostCell: 1, vcpus: CPUSet([0, 1]), memoryMiB: 64, pageSizeKiB: nil, pins: [],
                sharedCPUs: CPUSet([4, 5, 6, 7])),
            .init(
                hostCell: 0, vcpus: CPUSet([2, 3]), memoryMiB: 64, pageSizeKiB: nil, pins: [],
                sharedCPUs: CPUSet([0, 1, 2, 3])),
        ], emulatorCPUs: nil, isMemoryLocked: false)

    /// One vCPU with a processor of its own, one that shares, and the emulator apart.
    static let pinned = TopologyPlacement(
        cells: [
            .init(
                hostCell: 0, vcpus: CPUSet([0, 1]), memoryMiB: 128, pageSizeKiB: nil, pins: [.init(vcpu: 1, cpu: 3)],
                sharedCPUs: CPUSet([0, 1]), emulatorCPUs: CPUSet([2]))
        ], emulatorCPUs: CPUSet([2]), isMemoryLocked: false)

    static let hugePages = TopologyPlacement(
        cells: [
            .init(
                hostCell: 0, vcpus: CPUSet([0, 1]), memoryMiB: 128, pageSizeKiB: 2_048, pins: [],
                sharedCPUs: CPUSet([0, 1]))
        ], emulatorCPUs: nil, isMemoryLocked: true)
}

@Suite("Whole documents")
struct GoldenTests {
    private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().path + "/Golden"

    @Test("A guest's document is the one that is kept", arguments: GoldenGuest.all)
    func document(_ golden: GoldenGuest) throws {
        var guest = Sample.guest(specs: golden.specs, properties: golden.properties, vcpus: golden.vcpus)
        (guest.placement, guest.devices) = (golden.placement, golden.devices)
        guest.mediatedDevices = golden.mediatedDevices
        if let properties = golden.rescue {
            guest.rescueImage = Sample.image([2])
            guest.rescueImage?.properties = properties
        }
        let rescue = try RescueHardware(imageProperties: golden.rescue ?? [:])
        let text = try Sample.document(guest, golden.settings, rescue: rescue).serialized()
        let path = Self.folder + "/\(golden.name).xml"
        if ProcessInfo.processInfo.environment["APUS_WRITE_GOLDEN"] != nil {
            try Data(text.utf8).write(to: URL(fileURLWithPath: path))
            Issue.record("\(golden.name).xml was written; look at the change and run again without APUS_WRITE_GOLDEN")
        }
        #expect(try text == contents(path))
    }

    @Test("Every document that is kept belongs to a guest")
    func noneLeft() throws {
        let files = try FileManager.default.contentsOfDirectory(atPath: Self.folder).sorted()
        #expect(files == GoldenGuest.all.map { $0.name + ".xml" }.sorted())
    }
}
