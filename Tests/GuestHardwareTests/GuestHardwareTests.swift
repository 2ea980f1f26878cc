import GuestHardware
import Model
import Testing

@Suite("What a flavor and an image ask of a guest")
struct GuestHardwareTests {
    @Test("Without properties everything is as the host says, with a random number device and one serial port")
    func defaults() throws {
        let plain = try hardware()
        #expect(plain.machine.type == nil)
        #expect(plain.machine.firmware == nil)
        #expect(plain.machine.secureBoot == .disabled)
        #expect(plain.disks.bus == nil)
        #expect(plain.disks.limits.isEmpty)
        #expect(plain.nics.inbound == nil)
        #expect(plain.devices.randomness != nil)
        #expect(plain.devices.watchdog == .disabled)
        #expect(plain.devices.serialPorts == 1)
        #expect(plain.devices.tpm == nil)
        #expect(plain.system.configDrive == .optional)
        #expect(!plain.system.isWindows)
    }

    @Test("Each property lands in its place")
    func places() throws {
        let machine = try hardware(
            [
                "os:secure_boot": "required", "hw:boot_menu": "no", "hw:viommu_model": "intel",
                "hw:hide_hypervisor_id": "1",
            ],
            [
                "hw_machine_type": "pc-q35-7.2", "hw_firmware_type": "uefi", "hw_firmware_stateless": "true",
                "hw_boot_menu": "yes", "hw_time_hpet": "True", "os_secure_boot": "required",
            ]
        ).machine
        #expect(machine.type == "pc-q35-7.2")
        #expect(machine.firmware == .uefi)
        #expect(machine.isFirmwareStateless)
        #expect(machine.secureBoot == .required)
        #expect(machine.hasBootMenu == true)
        #expect(machine.iommu == .intel)
        #expect(machine.hasHPET)
        #expect(machine.isHypervisorHidden)

        let processor = try hardware(
            [
                "quota:cpu_shares": "512", "quota:cpu_quota": "50000", "quota:cpu_period": "100000", "hw:pmu": "off",
                "hw:maxphysaddr_mode": "emulate", "hw:maxphysaddr_bits": "42",
            ], ["hw_pmu": "false"]
        ).processor
        #expect(processor.shares == 512)
        #expect(processor.quotaMicroseconds == 50_000)
        #expect(processor.periodMicroseconds == 100_000)
        #expect(processor.hasPMU == false)
        #expect(processor.addressWidthMode == .emulate)
        #expect(processor.addressBits == 42)
        #expect(try hardware(["quota:cpu_quota": "-1"]).processor.quotaMicroseconds == nil)

        let disks = try hardware(
            [
                "quota:disk_read_bytes_sec": "1", "quota:disk_write_bytes_sec": "2", "quota:disk_total_iops_sec": "3",
                "hw:virtio_packed_ring": "true",
            ],
            [
                "hw_disk_bus": "scsi", "hw_cdrom_bus": "sata", "hw_scsi_model": "virtio-scsi",
                "hw_rescue_device": "cdrom",
                "hw_rescue_bus": "usb",
            ]
        ).disks
        #expect(disks.bus == .scsi)
        #expect(disks.cdromBus == .sata)
        #expect(disks.scsiModel == .virtioSCSI)
        #expect(disks.limits.readBytes == 1)
        #expect(disks.limits.writeBytes == 2)
        #expect(disks.limits.totalOperations == 3)
        #expect(disks.limits.readOperations == nil)
        #expect(disks.isRingPacked)
        #expect(disks.rescue?.device == .cdrom)
        #expect(disks.rescue?.bus == .usb)
    }

    @Test("NICs, console and devices land in theirs")
    func devices() throws {
        let nics = try hardware(
            [
                "quota:vif_inbound_average": "1000", "quota:vif_inbound_peak": "2000", "quota:vif_inbound_burst": "10",
                "quota:vif_outbound_average": "500", "hw:vif_multiqueue_enabled": "true",
            ], ["hw_vif_model": "e1000e", "hw_virtio_packed_ring": "yes"]
        ).nics
        #expect(nics.model == .e1000e)
        #expect(nics.isMultiqueue)
        #expect(nics.isRingPacked)
        #expect(nics.inbound?.average == 1_000)
        #expect(nics.inbound?.peak == 2_000)
        #expect(nics.inbound?.burst == 10)
        #expect(nics.outbound?.average == 500)
        #expect(nics.outbound?.peak == nil)

        let display = try hardware(
            ["hw_video:ram_max_mb": "64", "hw:sound_model": "ich9"],
            [
                "hw_video_model": "qxl", "hw_video_ram": "64", "hw_pointer_model": "usbtablet", "hw_input_bus": "usb",
                "hw_usb_model": "qemu-xhci",
            ]
        ).display
        #expect(display.videoModel == .qxl)
        #expect(display.videoMemoryMiB == 64)
        #expect(display.pointer == .usbTablet)
        #expect(display.inputBus == .usb)
        #expect(display.sound == .ich9)
        #expect(display.usb == .qemu)

        let devices = try hardware(
            [
                "hw_rng:rate_bytes": "2048", "hw_rng:rate_period": "1000", "hw:watchdog_action": "pause",
                "hw:serial_port_count": "3", "hw:tpm_version": "2.0", "hw:tpm_model": "tpm-crb",
            ], ["hw_watchdog_action": "reset", "hw_serial_port_count": "2", "hw_rng_model": "virtio"]
        ).devices
        #expect(devices.randomness?.bytes == 2_048)
        #expect(devices.randomness?.periodMilliseconds == 1_000)
        #expect(devices.watchdog == .reset)
        #expect(devices.serialPorts == 2)
        #expect(devices.tpm?.version == .v2)
        #expect(devices.tpm?.model == .crb)
        #expect(try hardware([:], ["hw_tpm_version": "1.2"]).devices.tpm?.model == .tis)
        #expect(try hardware(["hw_rng:allowed": "False"]).devices.randomness == nil)
        #expect(try hardware(["hw:watchdog_action": "none"]).devices.watchdog == WatchdogAction.none)
    }

    @Test("What an image says of the system in it")
    func system() throws {
        let system = try hardware(
            [:],
            [
                "os_type": "Windows", "hw_qemu_guest_agent": "yes", "os_require_quiesce": "yes",
                "os_shutdown_timeout": "90", "img_config_drive": "mandatory", "img_hide_hypervisor_id": "true",
            ]
        ).system
        #expect(system.isWindows)
        #expect(system.hasAgent)
        #expect(system.isQuiesceRequired)
        #expect(system.shutdownTimeout == .seconds(90))
        #expect(system.configDrive == .mandatory)
        #expect(system.administratorName == "Administrator")
        #expect(try hardware([:], ["os_admin_user": "debian"]).system.administratorName == "debian")
        #expect(try hardware([:], ["img_hide_hypervisor_id": "true"]).machine.isHypervisorHidden)
    }

    @Test(
        "Amounts by resource class are refused, not ignored",
        arguments: [
            ("resources:CUSTOM_NIC", "an amount of a resource class is not available yet"),
            ("resources_A:PCPU", "an amount of a resource class is not available yet"),
        ])
    func resourceClasses(name: String, reason: String) {
        let error = #expect(throws: HardwareError.self) { try hardware([name: "1"]) }
        #expect(error?.description.contains(reason) == true)
    }

    @Test("Mediated devices are counted, whatever gives them", arguments: [("1", 1), ("0", 0), ("32", 32)])
    func mediatedDevices(value: String, count: Int) throws {
        #expect(try hardware(["resources:VGPU": value]).passthrough.vgpus == count)
        #expect(try hardware().passthrough.vgpus == 0)
    }

    @Test("Names of other namespaces and properties that only describe are left alone")
    func others() throws {
        let plain = try hardware()
        #expect(
            try hardware(
                [
                    "trait:HW_CPU_X86_AVX": "required", "capabilities:cpu_arch": "x",
                    "aggregate_instance_extra_specs:ssd": "true", "anything": "else", "hw:cpu_policy": "shared",
                    "hw:locked_memory": "no",
                ],
                [
                    "os_distro": "debian", "os_version": "12", "hw_vm_mode": "hvm",
                    "free": "text",
                ]
            ) == plain)
    }
}
