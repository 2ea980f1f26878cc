import Compute
import GuestHardware
import Libvirt
import Model
import Testing
import XML

@testable import LibvirtDriver

@Suite("What a host lacks of what is asked for")
struct MachinePlanTests {
    private func refusal(
        _ specs: [String: String], _ properties: [String: String], lacking: [(String, String)] = [],
        _ change: (inout DomainSettings) -> Void = { _ in }
    ) throws -> String {
        let text = lacking.reduce(Sample.capabilities) { $0.replacing($1.0, with: $1.1) }
        var settings = Sample.settings()
        change(&settings)
        do {
            _ = try Sample.plan(
                Sample.guest(specs: specs, properties: properties), settings, abilities: Sample.abilities(text))
            return ""
        } catch let error as Failure {
            return error.message
        }
    }

    private let uefi = ["hw_firmware_type": "uefi", "hw_machine_type": "q35"]

    @Test("UEFI and secure boot need their firmware, and the machine for it")
    func firmware() throws {
        #expect(try refusal([:], uefi).isEmpty)
        #expect(
            try refusal([:], uefi, lacking: [("efi", "bios")])
                == "hw_firmware_type (image property) = 'uefi': the host has no UEFI firmware for the machine type q35 "
                + "(package ovmf)")
        #expect(
            try refusal(["os:secure_boot": "required"], uefi, lacking: [("<value>yes</value>", "")])
                == "os:secure_boot (flavor extra spec) = 'required': the host's UEFI firmware has no secure boot")
        #expect(
            try refusal(["os:secure_boot": "required"], ["hw_firmware_type": "uefi"])
                == "os:secure_boot (flavor extra spec) = 'required': it needs the machine type q35, this is pc")
    }

    @Test("An image for another architecture than the host's is refused, by either name of the property")
    func architecture() throws {
        for name in ["hw_architecture", "architecture"] {
            for own in ["x86_64", "amd64"] { #expect(try refusal([:], [name: own]).isEmpty) }
            #expect(
                try refusal([:], [name: "aarch64"])
                    == "\(name) (image property) = 'aarch64': the host's architecture is x86_64")
        }
        #expect(
            try refusal([:], ["hw_architecture": "s390x", "architecture": "x86_64"])
                == "hw_architecture (image property) = 's390x': the host's architecture is x86_64")
    }

    @Test("Optional secure boot is there where the host has it")
    func optionalSecureBoot() throws {
        let guest = Sample.guest(specs: ["os:secure_boot": "optional"], properties: uefi)
        #expect(try Sample.plan(guest, Sample.settings()).isBootSecure)
        let without = Sample.capabilities.replacing("<value>yes</value>", with: "")
        #expect(try !Sample.plan(guest, Sample.settings(), abilities: Sample.abilities(without)).isBootSecure)
    }

    @Test("A TPM must be switched on, and be there in its version and model")
    func tpm() throws {
        let specs = ["hw:tpm_version": "2.0", "hw:tpm_model": "tpm-crb"]
        #expect(
            try refusal(specs, [:])
                == "hw:tpm_version (flavor extra spec) = '2.0': [libvirt] swtpm_enabled is false on the host")
        #expect(try refusal(specs, [:]) { $0.isTPMEnabled = true }.isEmpty)
        #expect(
            try refusal(specs, [:], lacking: [("emulator", "external")]) { $0.isTPMEnabled = true }
                == "hw:tpm_version (flavor extra spec) = '2.0': the host emulates no TPM of this version (packages "
                + "swtpm, swtpm-tools)")
        #expect(
            try refusal(specs, [:], lacking: [("<value>tpm-crb</value>", "")]) { $0.isTPMEnabled = true }
                == "hw:tpm_model (flavor extra spec) = 'tpm-crb': the host has tpm-tis")
    }

    @Test("Models and buses that QEMU was built without are refused by name")
    func devices() throws {
        #expect(
            try refusal([:], ["hw_video_model": "cirrus"])
                == "hw_video_model (image property) = 'cirrus': the host has none, qxl, vga, virtio")
        #expect(
            try refusal([:], ["hw_disk_bus": "sata"], lacking: [("<value>sata</value>", "")])
                == "hw_disk_bus (image property) = 'sata': the host has ide, scsi, usb, virtio")
        #expect(
            try refusal([:], ["hw_vif_model": "igb"])
                == "hw_vif_model (image property) = 'igb': it needs libvirt 9.3 and QEMU 8.0")
        let newer = try Sample.abilities(libvirt: PackedVersion(9, 3, 0), hypervisor: PackedVersion(8, 0, 0))
        let guest = Sample.guest(specs: [:], properties: ["hw_vif_model": "igb"])
        #expect(try Sample.plan(guest, Sample.settings(), abilities: newer).hardware.nics.model == .igb)
    }

    @Test(
        "A device that QEMU was built without is refused by the name of who asked; where nobody knows it is tried",
        arguments: [
            ([:], ["hw_vif_model": "vmxnet3"], "vmxnet3", "hw_vif_model (image property) = 'vmxnet3'"),
            ([:], ["hw_scsi_model": "lsisas1078"], "megasas", "hw_scsi_model (image property) = 'lsisas1078'"),
            (["hw:sound_model": "ac97"], [:], "AC97", "hw:sound_model (flavor extra spec) = 'ac97'"),
            ([:], ["hw_usb_model": "nec-xhci"], "nec-usb-xhci", "hw_usb_model (image property) = 'nec-xhci'"),
        ] as [([String: String], [String: String], String, String)])
    func builtWithout(
        specs: [String: String], properties: [String: String], device: String, asked: String
    ) throws {
        let guest = Sample.guest(specs: specs, properties: properties)
        for known in [nil, [device]] as [Set<String>?] {
            _ = try Sample.plan(guest, Sample.settings(), abilities: Sample.abilities(devices: known))
        }
        let failure = #expect(throws: Failure.self) {
            _ = try Sample.plan(guest, Sample.settings(), abilities: Sample.abilities(devices: ["e1000"]))
        }
        #expect(failure?.message == "\(asked): the host's QEMU has no device \(device)")
    }

    @Test("QEMU's list of devices is read with the other names that it has for them")
    func list() {
        let text = """
            Network devices:
            name "e1000", bus PCI, alias "e1000-82540em", desc "Intel Gigabit Ethernet"
            name "virtio-net-pci", bus PCI, alias "virtio-net"
            name "usb-net", bus usb-bus
            """
        #expect(
            EmulatorDevices.parse(text) == ["e1000", "e1000-82540em", "virtio-net-pci", "virtio-net", "usb-net"])
        #expect(EmulatorDevices.parse("no devices here").isEmpty)
    }

    @Test("A program that is not there says nothing of its devices")
    func noProgram() async {
        #expect(await EmulatorDevices().names(of: "/nonexistent/qemu", version: "1") == nil)
    }

    @Test("The host's own machine type and CPU mode are looked at where the image names none")
    func configured() throws {
        #expect(
            try refusal([:], ["hw_disk_bus": "ide"]) { $0.machineType = "q35" }
                == "hw_disk_bus (image property) = 'ide': the machine type q35 has no IDE")
        #expect(
            try refusal(["hw:viommu_model": "intel"], [:])
                == "hw:viommu_model (flavor extra spec) = 'intel': it needs the machine type q35, this is pc")
        #expect(
            try refusal(["hw:maxphysaddr_mode": "passthrough"], [:])
                == "hw:maxphysaddr_mode (flavor extra spec) = 'passthrough': the host's CPU is not passed through: "
                + "[libvirt] cpu_mode is host-model")
    }

    @Test("Only what not every host has is looked up")
    func lookups() throws {
        func needs(_ properties: [String: String]) throws -> Bool {
            let guest = Sample.guest(specs: [:], properties: properties)
            let hardware = try GuestHardware(flavor: guest.instance.flavor, imageProperties: properties)
            return MachinePlan.needsAbilities(hardware, Sample.settings())
        }
        #expect(try !needs([:]))
        #expect(try !needs(["hw_qemu_guest_agent": "yes", "os_type": "windows"]))
        for (name, value) in [
            "hw_machine_type": "q35", "hw_firmware_type": "uefi", "hw_tpm_version": "2.0", "hw_video_model": "vga",
            "hw_vif_model": "igb", "hw_disk_bus": "sata", "hw_scsi_model": "virtio-scsi", "hw_usb_model": "none",
            "hw_sound_model": "ac97",
        ] { #expect(try needs([name: value]), "\(name)") }
    }

    @Test("Models that the host can run are those that libvirt does not call unusable")
    func models() throws {
        #expect(try Sample.abilities().cpuModels == ["Nehalem", "odd"])
        #expect(try Sample.abilities("<domainCapabilities/>").hasUEFI == false)
    }
}

@Suite("How disks are plugged")
struct PluggedDiskTests {
    private func plug(_ count: Int, _ properties: [String: String] = [:]) throws -> [PluggedDisk] {
        let plan = try Sample.plan(Sample.guest(specs: [:], properties: properties), Sample.settings())
        let disks = (0..<count).map { number in
            GuestDisk(
                role: number == 0 ? .root : .ephemeral(number - 1), path: "/d\(number)", format: .raw, backing: nil,
                isPreallocated: false)
        }
        return try PluggedDisk.plug(disks, configDrive: "/c", plan)
    }

    @Test("Each takes the first free name of its bus, the config drive the last")
    func names() throws {
        #expect(try plug(3).map(\.target) == ["vda", "vdb", "vdc", "hda"])
        #expect(try plug(3).last?.content == .configDrive("/c"))
        #expect(try plug(2, ["hw_disk_bus": "ide"]).map(\.target) == ["hda", "hdb", "hdc"])
        // scsi, sata and usb share their names.
        #expect(try plug(1, ["hw_disk_bus": "usb", "hw_cdrom_bus": "sata"]).map(\.target) == ["sda", "sdb"])
        #expect(try plug(1, ["hw_machine_type": "q35"]).map(\.bus) == ["virtio", "sata"])
        let many = try plug(28)
        #expect(many[25].target == "vdz")
        #expect(many[26].target == "vdaa")
        #expect(many[27].target == "vdab")
    }

    @Test("IDE has four places")
    func fullIDE() throws {
        #expect(try plug(3, ["hw_disk_bus": "ide"]).count == 4)
        let error = #expect(throws: Failure.self) { try plug(4, ["hw_disk_bus": "ide"]) }
        #expect(error?.message == "a machine has room for 4 disks on IDE, the guest has more than that")
    }

    @Test("Disks on a chosen SCSI controller get its places in order")
    func units() throws {
        let properties = ["hw_disk_bus": "scsi", "hw_cdrom_bus": "scsi", "hw_scsi_model": "virtio-scsi"]
        #expect(try plug(2, properties).map(\.unit) == [0, 1, 2])
        #expect(try plug(1, ["hw_disk_bus": "scsi"]).map(\.unit) == [nil, nil])
    }

    @Test("A disk of reserved blocks is written natively past the page cache; one without base ends its chain at once")
    func native() throws {
        let disk = GuestDisk(role: .root, path: "/d", format: .raw, backing: nil, isPreallocated: true)
        let element = try Sample.document(Sample.guest(), disks: [disk]).first("devices/disk")
        #expect(element?.first("driver")?["io"] == "native")
        #expect(element?.first("driver")?["type"] == "raw")
        #expect(element?.first("backingStore")?.children == [])
        var settings = Sample.settings()
        settings.diskCache = "writeback"
        #expect(try Sample.document(Sample.guest(), settings, disks: [disk]).first("devices/disk/driver")?["io"] == nil)
    }
}
