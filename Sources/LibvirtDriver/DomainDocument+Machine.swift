internal import GuestHardware
internal import Model
internal import XML

extension DomainDocument {
    var systemInformation: XMLNode {
        XMLNode("sysinfo", ["type": "smbios"]) {
            XMLNode("system") {
                // cloud-init and its kin recognise an OpenStack cloud by the product.
                XMLNode("entry", ["name": "manufacturer"], text: "OpenStack Foundation")
                XMLNode("entry", ["name": "product"], text: "OpenStack Nova")
                XMLNode("entry", ["name": "version"], text: "Apus " + settings.version)
                serial.map { XMLNode("entry", ["name": "serial"], text: $0) }
                XMLNode("entry", ["name": "uuid"], text: instance.id.rawValue)
                XMLNode("entry", ["name": "family"], text: "Virtual Machine")
            }
        }
    }

    private var serial: String? {
        switch settings.serial {
        case .instance: instance.id.rawValue
        case .host(let number): number
        case .none: nil
        }
    }

    /// With UEFI libvirt finds the firmware's files itself, and keeps the guest's variables beside its own state.
    var operatingSystem: XMLNode {
        XMLNode("os", ["firmware": plan.firmware == .uefi ? "efi" : nil]) {
            XMLNode("type", ["arch": settings.architecture, "machine": plan.type], text: "hvm")
            if plan.isBootSecure {
                XMLNode("firmware") {
                    XMLNode("feature", ["enabled": "yes", "name": "enrolled-keys"])
                    XMLNode("feature", ["enabled": "yes", "name": "secure-boot"])
                }
            } else if plan.firmware == .uefi, settings.isX86 {
                // Unsaid, libvirt takes the firmware that comes first, which refuses loaders that are not signed.
                XMLNode("firmware") { XMLNode("feature", ["enabled": "no", "name": "secure-boot"]) }
            }
            if plan.isBootSecure || hardware.machine.isFirmwareStateless {
                XMLNode(
                    "loader",
                    [
                        "secure": plan.isBootSecure ? "yes" : nil,
                        "stateless": hardware.machine.isFirmwareStateless ? "yes" : nil,
                    ])
            }
            // libvirt takes one or the other: an order of kinds of devices, or one of devices.
            if disks.allSatisfy({ $0.bootOrder == nil }) { XMLNode("boot", ["dev": "hd"]) }
            if let hasMenu = hardware.machine.hasBootMenu {
                XMLNode("bootmenu", ["enable": hasMenu ? "yes" : "no"])
            }
            XMLNode("smbios", ["mode": "sysinfo"])
        }
    }

    var features: XMLNode {
        XMLNode("features") {
            XMLNode("acpi")
            if settings.isX86 { XMLNode("apic") }
            if settings.isX86 || settings.isARM { XMLNode("vmcoreinfo", ["state": "on"]) }
            if hasEnlightenments { enlightenments }
            // What is emulated has nothing to hide.
            if hardware.machine.isHypervisorHidden, settings.isKVM {
                XMLNode("kvm") { XMLNode("hidden", ["state": "on"]) }
            }
            if let hasPMU = hardware.processor.hasPMU { XMLNode("pmu", ["state": hasPMU ? "on" : "off"]) }
            if plan.isBootSecure { XMLNode("smm", ["state": "on"]) }
            if plan.iommu == .intel { XMLNode("ioapic", ["driver": "qemu"]) }
            if let size = settings.translationCacheMiB, settings.virtType == "qemu" {
                XMLNode("tcg") { XMLNode("tb-cache", ["unit": "KiB"], text: String(size * 1_024)) }
            }
        }
    }

    /// Windows's ways to talk to its hypervisor are KVM's; the emulator has none.
    private var hasEnlightenments: Bool { hardware.system.isWindows && settings.isKVM && settings.isX86 }

    private var enlightenments: XMLNode {
        func on(_ name: String) -> XMLNode { XMLNode(name, ["state": "on"]) }
        return XMLNode("hyperv") {
            on("relaxed")
            on("vapic")
            XMLNode("spinlocks", ["state": "on", "retries": "8191"])
            on("vpindex")
            on("runtime")
            on("synic")
            on("reset")
            // Some drivers refuse a hypervisor that they recognise by its name.
            if hardware.machine.isHypervisorHidden {
                XMLNode("vendor_id", ["state": "on", "value": "1234567890ab"])
            }
            on("frequencies")
            on("tlbflush")
            on("ipi")
        }
    }

    var clock: XMLNode {
        XMLNode("clock", ["offset": hardware.system.isWindows ? "localtime" : "utc"]) {
            if settings.isKVM, settings.isX86 {
                XMLNode("timer", ["name": "pit", "tickpolicy": "delay"])
                XMLNode("timer", ["name": "rtc", "tickpolicy": "catchup"])
            }
            if settings.isX86, settings.isKVM || hardware.machine.hasHPET {
                XMLNode("timer", ["name": "hpet", "present": hardware.machine.hasHPET ? "yes" : "no"])
            }
            if hasEnlightenments { XMLNode("timer", ["name": "hypervclock", "present": "yes"]) }
        }
    }

    var iommu: XMLNode? {
        plan.iommu.map { model in
            XMLNode("iommu", ["model": model.rawValue]) {
                if model == .intel {
                    // Interrupts beyond 8 bits of CPU number need KVM's own controller.
                    XMLNode(
                        "driver",
                        [
                            "intremap": "on", "caching_mode": "on", "eim": settings.isKVM ? "on" : nil, "iotlb": "on",
                        ])
                }
            }
        }
    }
}
