internal import Compute
internal import GuestHardware
internal import Model
internal import XML

/// A guest's domain XML.
///
/// Its parts are in the extensions beside this file; none of them looks at the host.
struct DomainDocument: Sendable {
    let guest: GuestSpecification
    let plan: MachinePlan
    let disks: [PluggedDisk]
    let folder: InstanceFolder
    let settings: DomainSettings
    /// The TCP ports of the guest's serial ports, where they have some.
    var listeningPorts: [Int] = []

    var instance: Instance { guest.instance }
    var hardware: GuestHardware { plan.hardware }

    func make() -> XMLNode {
        XMLNode("domain", ["type": settings.virtType]) {
            XMLNode("name", text: instance.domainName)
            XMLNode("uuid", text: instance.id.rawValue)
            DomainMetadata.make(guest, version: settings.version)
            XMLNode("memory", ["unit": "KiB"], text: String(instance.flavor.memoryMiB * 1_024))
            memoryBacking
            XMLNode("vcpu", ["cpuset": sharedCPUs], text: String(instance.flavor.vcpus))
            cpuTuning
            memoryTuning
            systemInformation
            operatingSystem
            features
            cpu
            clock
            XMLNode("on_poweroff", text: "destroy")
            XMLNode("on_reboot", text: "restart")
            XMLNode("on_crash", text: "destroy")
            XMLNode("devices") {
                diskControllers
                for disk in disks { diskElement(disk) }
                for interface in guest.interfaces { nic(interface) }
                serialPorts
                agentChannel
                screen
                input
                usbController
                sound
                randomness
                tpm
                watchdog
                hostDevices
                balloon
                iommu
            }
        }
    }
}
