internal import Compute
internal import Model
internal import XML

/// What of the host and the configuration goes into every domain's XML.
struct DomainSettings: Sendable, Hashable {
    var virtType: String
    var architecture: String
    var machineType: String
    var cpuMode: LibvirtDriverOptions.CPUMode
    var diskCache: String
    var randomDevice: String
    /// Seconds; 0 for no balloon device.
    var memoryStatisticsPeriod: Int
    var network: NetworkBinding
    var version: String
}

/// A guest's domain XML.
enum DomainDocument {
    /// - Parameter base: the raw file under the root disk.
    static func make(
        _ guest: GuestSpecification, folder: InstanceFolder, base: String, _ settings: DomainSettings
    ) -> XMLNode {
        let instance = guest.instance
        return XMLNode("domain", ["type": settings.virtType]) {
            XMLNode("name", text: instance.domainName)
            XMLNode("uuid", text: instance.id.rawValue)
            DomainMetadata.make(guest, version: settings.version)
            XMLNode("memory", ["unit": "KiB"], text: String(instance.flavor.memoryMiB * 1_024))
            XMLNode("vcpu", text: String(instance.flavor.vcpus))
            systemInformation(instance, settings)
            XMLNode("os") {
                XMLNode("type", ["arch": settings.architecture, "machine": settings.machineType], text: "hvm")
                XMLNode("boot", ["dev": "hd"])
                XMLNode("smbios", ["mode": "sysinfo"])
            }
            XMLNode("features") {
                XMLNode("acpi")
                XMLNode("apic")
            }
            XMLNode("cpu", cpuAttributes(settings)) {
                XMLNode("topology", ["sockets": String(instance.flavor.vcpus), "cores": "1", "threads": "1"])
            }
            clock(settings)
            XMLNode("on_poweroff", text: "destroy")
            XMLNode("on_reboot", text: "restart")
            XMLNode("on_crash", text: "destroy")
            XMLNode("devices") {
                rootDisk(folder, base: base, settings)
                configDrive(folder)
                for interface in guest.interfaces { nic(interface, settings) }
                serial(folder)
                XMLNode("controller", ["type": "usb", "index": "0", "model": "none"])
                randomness(settings)
                balloon(settings)
            }
        }
    }

    private static func systemInformation(_ instance: Instance, _ settings: DomainSettings) -> XMLNode {
        XMLNode("sysinfo", ["type": "smbios"]) {
            XMLNode("system") {
                // cloud-init and its kin recognise an OpenStack cloud by the product.
                XMLNode("entry", ["name": "manufacturer"], text: "OpenStack Foundation")
                XMLNode("entry", ["name": "product"], text: "OpenStack Nova")
                XMLNode("entry", ["name": "version"], text: "Apus " + settings.version)
                XMLNode("entry", ["name": "serial"], text: instance.id.rawValue)
                XMLNode("entry", ["name": "uuid"], text: instance.id.rawValue)
                XMLNode("entry", ["name": "family"], text: "Virtual Machine")
            }
        }
    }

    private static func cpuAttributes(_ settings: DomainSettings) -> KeyValuePairs<String, String?> {
        switch settings.cpuMode {
        case .none: [:]
        case .hostModel: ["mode": "host-model", "check": "partial"]
        case .hostPassthrough: ["mode": "host-passthrough", "check": "none"]
        }
    }

    private static func clock(_ settings: DomainSettings) -> XMLNode {
        XMLNode("clock", ["offset": "utc"]) {
            if settings.virtType == "kvm" {
                XMLNode("timer", ["name": "pit", "tickpolicy": "delay"])
                XMLNode("timer", ["name": "rtc", "tickpolicy": "catchup"])
                XMLNode("timer", ["name": "hpet", "present": "no"])
            }
        }
    }

    private static func rootDisk(_ folder: InstanceFolder, base: String, _ settings: DomainSettings) -> XMLNode {
        XMLNode("disk", ["type": "file", "device": "disk"]) {
            XMLNode("driver", ["name": "qemu", "type": "qcow2", "cache": settings.diskCache])
            XMLNode("source", ["file": folder.disk])
            // With the whole chain given libvirt reads no header to find it.
            XMLNode("backingStore", ["type": "file"]) {
                XMLNode("format", ["type": "raw"])
                XMLNode("source", ["file": base])
                XMLNode("backingStore")
            }
            XMLNode("target", ["dev": "vda", "bus": "virtio"])
        }
    }

    private static func configDrive(_ folder: InstanceFolder) -> XMLNode {
        XMLNode("disk", ["type": "file", "device": "cdrom"]) {
            XMLNode("driver", ["name": "qemu", "type": "raw"])
            XMLNode("source", ["file": folder.configDrive])
            XMLNode("target", ["dev": "hda", "bus": "ide"])
            XMLNode("readonly")
        }
    }

    private static func nic(_ interface: NetworkInterface, _ settings: DomainSettings) -> XMLNode {
        let isNetwork: Bool
        let source: XMLNode
        switch settings.network.binding(of: interface) {
        case .libvirt(let name): (isNetwork, source) = (true, XMLNode("source", ["network": name]))
        case .bridge(let name): (isNetwork, source) = (false, XMLNode("source", ["bridge": name]))
        }
        return XMLNode("interface", ["type": isNetwork ? "network" : "bridge"]) {
            XMLNode("mac", ["address": interface.macAddress])
            source
            XMLNode("model", ["type": "virtio"])
        }
    }

    private static func serial(_ folder: InstanceFolder) -> XMLNode {
        XMLNode("serial", ["type": "pty"]) {
            XMLNode("log", ["file": folder.consoleLog, "append": "off"])
            XMLNode("target", ["port": "0"])
        }
    }

    private static func randomness(_ settings: DomainSettings) -> XMLNode {
        XMLNode("rng", ["model": "virtio"]) {
            XMLNode("backend", ["model": "random"], text: settings.randomDevice)
        }
    }

    private static func balloon(_ settings: DomainSettings) -> XMLNode {
        XMLNode("memballoon", ["model": settings.memoryStatisticsPeriod > 0 ? "virtio" : "none"]) {
            if settings.memoryStatisticsPeriod > 0 {
                XMLNode("stats", ["period": String(settings.memoryStatisticsPeriod)])
            }
        }
    }
}
