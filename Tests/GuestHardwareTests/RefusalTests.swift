import GuestHardware
import Model
import Testing

@Suite("What no guest can be steered by")
struct RefusalTests {
    @Test(
        "A value that is none names property, origin, value, and what would do",
        arguments: [
            Row(
                ["resources:VGPU": "33"], [:],
                "resources:VGPU (flavor extra spec) = '33': a whole number from 0 to 32 is wanted"),
            Row(
                ["resources:VGPU": "-1"], [:],
                "resources:VGPU (flavor extra spec) = '-1': a whole number from 0 to 32 is wanted"),
            Row(
                ["resources:VGPU": "one"], [:],
                "resources:VGPU (flavor extra spec) = 'one': a whole number from 0 is wanted"),
            Row(
                ["resources:VGPU": "9999999999999999999999"], [:],
                "resources:VGPU (flavor extra spec) = '9999999999999999999999': a whole number from 0 is wanted"),
            Row(
                ["hw:cpu_policy": "pinned"], [:],
                "hw:cpu_policy (flavor extra spec) = 'pinned': one of shared, dedicated, mixed is wanted"
            ),
            Row(["hw:pmu": "maybe"], [:], "hw:pmu (flavor extra spec) = 'maybe': true or false is wanted"),
            Row(
                [:], ["hw_disk_bus": "floppy"],
                "hw_disk_bus (image property) = 'floppy': one of virtio, scsi, sata, ide, usb is wanted"),
            Row(
                [:], ["hw_firmware_type": "UEFI"],
                "hw_firmware_type (image property) = 'UEFI': one of bios, uefi is wanted"),
            Row(
                [:], ["hw_machine_type": "pc'/>"],
                "hw_machine_type (image property) = 'pc'/>': up to 64 letters, digits, '.', '_' and '-' are wanted"),
            Row(
                ["quota:cpu_quota": "-2"], [:],
                "quota:cpu_quota (flavor extra spec) = '-2': a whole number from 1000 to 17592186044415 is wanted"),
            Row(
                ["quota:cpu_period": "10"], [:],
                "quota:cpu_period (flavor extra spec) = '10': a whole number from 1000 to 1000000 is wanted"),
            Row(
                ["quota:disk_read_iops_sec": "1.5"], [:],
                "quota:disk_read_iops_sec (flavor extra spec) = '1.5': a whole number from 0 is wanted"),
            Row(
                [:], ["os_shutdown_timeout": "soon"],
                "os_shutdown_timeout (image property) = 'soon': a whole number from 0 is wanted"),
            Row(
                [:], ["os_admin_user": "a\nb"],
                "os_admin_user (image property) = 'a\nb': a text of up to 255 characters is wanted"),
            Row(
                [:], ["hw_serial_port_count": "5"],
                "hw_serial_port_count (image property) = '5': a whole number from 1 to 4 is wanted"),
        ])
    func values(_ row: Row<String>) {
        #expect(refusal(row.specs, row.properties) == row.expected)
    }

    @Test(
        "Unknown names of the namespaces that steer guests are refused",
        arguments: [
            Row(
                ["hw:no_such": "1"], [:],
                "hw:no_such (flavor extra spec) = '1': there is no flavor extra spec of this name"),
            Row(["quota:disk_speed": "1"], [:], "there is no flavor extra spec of this name"),
            Row(["hw_rng:model": "virtio"], [:], "there is no flavor extra spec of this name"),
            // An image's property in a flavor, and the reverse.
            Row(["hw:machine_type": "q35"], [:], "there is no flavor extra spec of this name"),
            Row([:], ["hw_hide_hypervisor_id": "yes"], "there is no image property of this name"),
            Row([:], ["hw_no_such": "1"], "hw_no_such (image property) = '1': there is no image property of this name"),
        ])
    func unknown(_ row: Row<String>) {
        #expect(refusal(row.specs, row.properties).hasSuffix(row.expected))
    }

    @Test(
        "What is not built yet is refused by its name",
        arguments: [
            Row(["hw:cpu_realtime": "yes"], [:], "real-time scheduling"),
            Row(["hw:mem_encryption": "true"], [:], "encryption of memory"),
            Row(["hw:pmem": "6GB"], [:], "persistent memory"),
            Row(["hw:ephemeral_encryption_format": "luks"], [:], "encryption of local disks"),
            Row([:], ["hw_emulation_architecture": "aarch64"], "emulation of another architecture"),
            Row(["accel:device_profile": "fpga"], [:], "an accelerator"),
        ])
    func unserved(_ row: Row<String>) {
        #expect(refusal(row.specs, row.properties).contains(row.expected))
    }

    @Test(
        "A flavor and an image that contradict each other are refused",
        arguments: [
            Row(
                ["hw:pmu": "true"], ["hw_pmu": "false"],
                "hw:pmu (flavor extra spec) = 'true': hw_pmu (image property) = 'false' contradicts it"),
            Row(["os:secure_boot": "optional"], ["os_secure_boot": "disabled"], "contradicts it"),
            Row(["hw:tpm_version": "2.0"], ["hw_tpm_version": "1.2"], "contradicts it"),
            Row(["hw:tpm_version": "2.0", "hw:tpm_model": "tpm-tis"], ["hw_tpm_model": "tpm-crb"], "contradicts it"),
            Row(["hw:vif_multiqueue_enabled": "true"], ["hw_vif_multiqueue_enabled": "false"], "contradicts it"),
            Row(["hw:virtio_packed_ring": "true"], ["hw_virtio_packed_ring": "false"], "contradicts it"),
            Row(["hw:viommu_model": "intel"], ["hw_viommu_model": "virtio"], "contradicts it"),
            Row(["hw:sound_model": "ich9"], ["hw_sound_model": "ac97"], "contradicts it"),
            Row(
                ["hw:serial_port_count": "1"], ["hw_serial_port_count": "2"],
                "the flavor allows at most 1 (hw:serial_port_count)"),
            Row([:], ["hw_video_ram": "16"], "the flavor allows at most 0 MB (hw_video:ram_max_mb)"),
            Row(
                ["hw_video:ram_max_mb": "8"], ["hw_video_ram": "16"],
                "hw_video_ram (image property) = '16': the flavor allows at most 8 MB (hw_video:ram_max_mb)"),
        ])
    func contradictions(_ row: Row<String>) {
        #expect(refusal(row.specs, row.properties).hasSuffix(row.expected))
    }

    @Test(
        "What cannot be together is refused",
        arguments: [
            Row(["os:secure_boot": "required"], [:], "hw_firmware_type = uefi is wanted with it"),
            Row(
                [:], ["os_secure_boot": "required", "hw_firmware_type": "bios"],
                "hw_firmware_type = uefi is wanted with it"),
            Row(
                [:], ["os_secure_boot": "required", "hw_firmware_type": "uefi", "hw_machine_type": "pc"],
                "it needs the machine type q35, hw_machine_type is pc"),
            Row([:], ["hw_firmware_stateless": "true"], "only hw_firmware_type = uefi can be without state"),
            Row([:], ["hw_machine_type": "q35", "hw_disk_bus": "ide"], "the machine type q35 has no IDE"),
            Row(
                [:], ["hw_machine_type": "pc-q35-7.2", "hw_cdrom_bus": "ide"], "the machine type pc-q35-7.2 has no IDE"),
            Row(["hw:viommu_model": "intel"], ["hw_machine_type": "pc"], "it needs the machine type q35, this is pc"),
            Row(
                ["hw:viommu_model": "smmuv3"], ["hw_machine_type": "q35"], "it needs the machine type virt, this is q35"
            ),
            Row(
                ["hw:viommu_model": "auto"], ["hw_machine_type": "pc"],
                "it needs the machine type q35 or virt, this is pc"),
            Row(["hw:tpm_model": "tpm-tis"], [:], "the version (hw:tpm_version) is wanted with it"),
            Row(
                ["hw:tpm_version": "1.2", "hw:tpm_model": "tpm-crb"], [:], "TPM 1.2 has no such interface; 2.0 has"),
            Row(["hw:maxphysaddr_mode": "emulate"], [:], "the number of bits (hw:maxphysaddr_bits) is wanted with it"),
            Row(["hw:maxphysaddr_bits": "40"], [:], "the mode (hw:maxphysaddr_mode) emulate is wanted with it"),
            Row(
                ["quota:disk_total_bytes_sec": "1", "quota:disk_write_bytes_sec": "1"], [:],
                "quota:disk_write_bytes_sec excludes it"),
            Row(["quota:vif_inbound_peak": "1"], [:], "quota:vif_inbound_average is wanted with it"),
            Row(["quota:vif_outbound_burst": "1"], [:], "quota:vif_outbound_average is wanted with it"),
            Row([:], ["hw_rescue_device": "cdrom", "hw_rescue_bus": "virtio"], "a CD-ROM cannot be on virtio"),
            Row(["hw:usb_model": "none"], ["hw_disk_bus": "usb"], "hw_disk_bus = usb needs one"),
        ])
    func impossible(_ row: Row<String>) {
        #expect(refusal(row.specs, row.properties).hasSuffix(": " + row.expected))
    }

    @Test("Limits of 0 are no limits, and then exclude nothing")
    func zeros() throws {
        let specs = [
            "quota:disk_total_bytes_sec": "0", "quota:disk_write_bytes_sec": "1", "quota:vif_inbound_peak": "0",
        ]
        #expect(refusal(specs).isEmpty)
        #expect(try hardware(specs).disks.limits.totalBytes == nil)
    }

    @Test("Alone, a property is refused for its value, not for a name that is unknown or not built yet")
    func alone() throws {
        try GuestHardware.check(flavorSpec: "hw:no_such", value: "1")
        try GuestHardware.check(flavorSpec: "hw:mem_page_size", value: "small")
        try GuestHardware.check(imageProperty: "hw_disk_bus", value: "sata")
        #expect(throws: HardwareError.self) { try GuestHardware.check(flavorSpec: "hw:cpu_sockets", value: "-1") }
        #expect(throws: HardwareError.self) { try GuestHardware.check(imageProperty: "hw_disk_bus", value: "x") }
    }

    @Test("A host's refusal names who asked: the image, the flavor, or the flavor's name when nobody did")
    func demands() {
        let flavor = Flavor(
            id: FlavorID("1"), name: "m", vcpus: 1, memoryMiB: 1, rootGiB: 1, extraSpecs: ["hw:tpm_version": "2.0"])
        func text(_ demand: GuestHardware.Demand, _ properties: [String: String]) -> String {
            GuestHardware.refusal(demand, "no", flavor: flavor, imageProperties: properties).description
        }
        #expect(text(.tpm, [:]) == "hw:tpm_version (flavor extra spec) = '2.0': no")
        #expect(text(.tpm, ["hw_tpm_version": "2.0"]) == "hw_tpm_version (image property) = '2.0': no")
        #expect(text(.uefi, ["hw_firmware_type": "uefi"]) == "hw_firmware_type (image property) = 'uefi': no")
    }
}
