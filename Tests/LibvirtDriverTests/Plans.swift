import Compute
import GuestHardware
import Libvirt
import Model
import XML

@testable import LibvirtDriver

extension Sample {
    /// What a host with everything says of its domains.
    static let capabilities = """
        <domainCapabilities>
          <os supported='yes'>
            <enum name='firmware'><value>efi</value></enum>
            <loader supported='yes'>
              <value>/usr/share/OVMF/OVMF_CODE_4M.fd</value>
              <enum name='secure'><value>yes</value><value>no</value></enum>
            </loader>
          </os>
          <cpu>
            <mode name='custom' supported='yes'>
              <model usable='yes'>Nehalem</model><model usable='no'>Icelake-Server</model><model usable='unknown'>odd</model>
            </mode>
          </cpu>
          <devices>
            <disk supported='yes'>
              <enum name='bus'>
                <value>ide</value><value>scsi</value><value>virtio</value><value>usb</value><value>sata</value>
              </enum>
            </disk>
            <video supported='yes'>
              <enum name='modelType'><value>vga</value><value>virtio</value><value>qxl</value><value>none</value></enum>
            </video>
            <tpm supported='yes'>
              <enum name='model'><value>tpm-tis</value><value>tpm-crb</value></enum>
              <enum name='backendModel'><value>passthrough</value><value>emulator</value></enum>
              <enum name='backendVersion'><value>1.2</value><value>2.0</value></enum>
            </tpm>
          </devices>
        </domainCapabilities>
        """

    static func abilities(
        _ text: String = capabilities, libvirt: PackedVersion = PackedVersion(9, 0, 0),
        hypervisor: PackedVersion = PackedVersion(7, 2, 0), devices: Set<String>? = nil
    ) throws -> HostAbilities {
        HostAbilities(try XMLNode(parsing: text), libvirt: libvirt, hypervisor: hypervisor, devices: devices)
    }

    static func plan(
        _ guest: GuestSpecification, _ settings: DomainSettings, abilities: HostAbilities? = nil
    ) throws -> MachinePlan {
        let (flavor, properties) = (guest.instance.flavor, guest.image.properties)
        let hardware = try GuestHardware(flavor: flavor, imageProperties: properties)
        return try MachinePlan(hardware, settings, abilities: abilities ?? Sample.abilities()) { demand, reason in
            Failure(
                .hypervisor,
                GuestHardware.refusal(demand, reason, flavor: flavor, imageProperties: properties).description)
        }
    }

    static func document(
        _ guest: GuestSpecification, _ settings: DomainSettings = settings(), disks: [GuestDisk]? = nil,
        abilities: HostAbilities? = nil, rescue: RescueHardware? = nil
    ) throws -> XMLNode {
        let folder = try InstanceFolder(guest.instance.id, in: "/var/lib/apus/instances")
        let plan = try plan(guest, settings, abilities: abilities)
        let root = GuestDisk(
            role: .root, path: folder.disk, format: .qcow2, backing: "/var/lib/apus/instances/_base/ab12",
            isPreallocated: false)
        let rescueDisk = GuestDisk(
            role: .rescue, path: folder.path + "/" + InstanceFolder.rescueName, format: .qcow2,
            backing: "/var/lib/apus/instances/_base/cd34", isPreallocated: false)
        let files = disks ?? (guest.rescueImage == nil ? [root] : [rescueDisk, root])
        return DomainDocument(
            guest: guest, plan: plan,
            disks: try PluggedDisk.plug(files, configDrive: folder.configDrive(of: guest), plan, rescue: rescue),
            folder: folder, settings: settings,
            listeningPorts: settings.serialConsole == nil ? [] : [10_000, 10_001]
        ).make()
    }

    static func guest(
        specs: [String: String], properties: [String: String], vcpus: Int = 2
    ) -> GuestSpecification {
        var flavor = flavor()
        (flavor.vcpus, flavor.extraSpecs) = (vcpus, specs)
        var image = image([1])
        image.properties = properties
        return guest(instance(flavor: flavor), image: image)
    }
}
