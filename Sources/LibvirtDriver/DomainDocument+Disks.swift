internal import GuestHardware
internal import Model
internal import XML

extension DomainDocument {
    var diskControllers: [XMLNode] {
        var controllers: [XMLNode] = []
        if let model = hardware.disks.scsiModel {
            controllers.append(XMLNode("controller", ["type": "scsi", "index": "0", "model": model.rawValue]))
        }
        guard settings.pciePorts > 0, MachineHardware.isQ35(plan.type) || MachineHardware.isVirt(plan.type) else {
            return controllers
        }
        controllers.append(XMLNode("controller", ["type": "pci", "index": "0", "model": "pcie-root"]))
        for _ in 0..<settings.pciePorts {
            controllers.append(XMLNode("controller", ["type": "pci", "model": "pcie-root-port"]))
        }
        return controllers
    }

    func diskElement(_ disk: PluggedDisk) -> XMLNode {
        switch disk.content {
        case .disk(let file): element(of: file, disk)
        case .configDrive(let path): element(ofConfigDrive: path, disk)
        }
    }

    private func element(of file: GuestDisk, _ disk: PluggedDisk) -> XMLNode {
        // Native asynchronous writes need both: blocks that are there, and no page cache in between.
        let isNative = file.isPreallocated && ["none", "directsync"].contains(settings.diskCache)
        return XMLNode("disk", ["type": "file", "device": disk.isCDROM ? "cdrom" : "disk"]) {
            XMLNode(
                "driver",
                [
                    "name": "qemu", "type": file.format.rawValue, "cache": settings.diskCache,
                    "io": isNative ? "native" : nil, "discard": settings.diskDiscard,
                    "packed": disk.bus == DiskBus.virtio.rawValue && hardware.disks.isRingPacked ? "on" : nil,
                ])
            XMLNode("source", ["file": file.path])
            // With the whole chain given libvirt reads no header to find it.
            if let backing = file.backing {
                XMLNode("backingStore", ["type": "file"]) {
                    XMLNode("format", ["type": "raw"])
                    XMLNode("source", ["file": backing])
                    XMLNode("backingStore")
                }
            } else {
                XMLNode("backingStore")
            }
            XMLNode("target", ["dev": disk.target, "bus": disk.bus])
            throttle
            if disk.isCDROM { XMLNode("readonly") }
            disk.bootOrder.map { XMLNode("boot", ["order": String($0)]) }
            address(of: disk)
        }
    }

    private func element(ofConfigDrive path: String, _ disk: PluggedDisk) -> XMLNode {
        XMLNode("disk", ["type": "file", "device": "cdrom"]) {
            XMLNode("driver", ["name": "qemu", "type": "raw"])
            XMLNode("source", ["file": path])
            XMLNode("target", ["dev": disk.target, "bus": disk.bus])
            XMLNode("readonly")
            address(of: disk)
        }
    }

    private func address(of disk: PluggedDisk) -> XMLNode? {
        disk.unit.map { unit in
            XMLNode(
                "address", ["type": "drive", "controller": "0", "bus": "0", "target": "0", "unit": String(unit)])
        }
    }

    private var throttle: XMLNode? {
        let limits = hardware.disks.limits
        guard !limits.isEmpty else { return nil }
        let figures: [(String, Int?)] = [
            ("total_bytes_sec", limits.totalBytes), ("read_bytes_sec", limits.readBytes),
            ("write_bytes_sec", limits.writeBytes), ("total_iops_sec", limits.totalOperations),
            ("read_iops_sec", limits.readOperations), ("write_iops_sec", limits.writeOperations),
        ]
        return XMLNode("iotune") {
            for (name, value) in figures {
                if let value { XMLNode(name, text: String(value)) }
            }
        }
    }
}
