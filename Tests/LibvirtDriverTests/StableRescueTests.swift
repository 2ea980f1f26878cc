import GuestHardware
import Model
import Testing

@testable import LibvirtDriver

@Suite("Rescues in which all devices keep their place")
struct StableRescueTests {
    private func plug(_ properties: [String: String], rescue: [String: String]) throws -> [PluggedDisk] {
        let plan = try Sample.plan(Sample.guest(specs: [:], properties: properties), Sample.settings())
        let roles: [GuestDisk.Role] = [.rescue, .root, .ephemeral(0), .swap]
        let disks = roles.map { role in
            GuestDisk(role: role, path: "/\(role)", format: .raw, backing: nil, isPreallocated: false)
        }
        return try PluggedDisk.plug(
            disks, configDrive: "/c", plan, rescue: RescueHardware(imageProperties: rescue))
    }

    @Test("Without a word of the image the rescue's disk takes the first place, as ever")
    func classic() throws {
        let disks = try plug([:], rescue: ["hw_disk_bus": "scsi"])
        #expect(disks.map(\.target) == ["vda", "vdb", "vdc", "vdd", "hda"])
        #expect(disks.allSatisfy { $0.bootOrder == nil && !$0.isCDROM })
    }

    @Test("With one it comes last and is booted from first, the root disk next")
    func stable() throws {
        let disks = try plug([:], rescue: ["hw_rescue_device": "disk"])
        #expect(disks.map(\.target) == ["vda", "vdb", "vdc", "hda", "vdd"])
        #expect(disks.map(\.bootOrder) == [2, nil, nil, nil, 1])
    }

    @Test("A CD-ROM goes where the machine has them, unless the image says where")
    func cdrom() throws {
        #expect(try plug([:], rescue: ["hw_rescue_device": "cdrom"]).last?.target == "hdb")
        let wanted = try plug(
            ["hw_machine_type": "q35"], rescue: ["hw_rescue_device": "cdrom", "hw_rescue_bus": "usb"])
        #expect(wanted.last?.bus == "usb" && wanted.last?.target == "sdb" && wanted.last?.isCDROM == true)
    }

    @Test("A bus that the machine or the host does not have is refused")
    func refusals() throws {
        let q35 = try Sample.plan(
            Sample.guest(specs: [:], properties: ["hw_machine_type": "q35"]), Sample.settings())
        #expect(q35.flaw(of: .ide, try Sample.abilities()) == "the machine type q35 has no IDE")
        let without = try Sample.abilities(Sample.capabilities.replacing("<value>usb</value>", with: ""))
        #expect(q35.flaw(of: .usb, without) == "the host has ide, sata, scsi, virtio")
        #expect(q35.flaw(of: .usb, try Sample.abilities()) == nil)
        #expect(throws: HardwareError.self) {
            _ = try RescueHardware(imageProperties: ["hw_rescue_device": "floppy"])
        }
        #expect(throws: HardwareError.self) {
            _ = try RescueHardware(imageProperties: ["hw_rescue_device": "cdrom", "hw_rescue_bus": "virtio"])
        }
    }
}
