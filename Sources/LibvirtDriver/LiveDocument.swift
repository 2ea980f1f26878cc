internal import Compute
internal import Model
internal import XML

/// The definition of a guest that comes from another host, as it is to be here: everything the guest sees stays as it
/// is, everything of the host's is this host's own. What the other host calls its files is read for their last names only,
/// and those are names that an instance's files have.
struct LiveDocument: Sendable {
    /// As the other host gave it.
    let offered: XMLNode
    let folder: InstanceFolder
    /// This host's own, by their files' names.
    let disks: [String: GuestDisk]
    /// This host's definition of the same guest, of which its places on processors and memory are taken.
    let own: XMLNode
    let interfaces: [NetworkInterface]
    let binding: NetworkBinding
    let vncAddress: String?

    /// What a guest's definition may have besides `devices`. What stands here says what the guest sees, or how libvirt treats
    /// it; nothing else of the other host's comes here.
    private static let known: Set<String> = [
        "name", "uuid", "genid", "title", "description", "metadata", "maxMemory", "memory", "currentMemory",
        "memoryBacking", "vcpu", "vcpus", "iothreads", "resource", "sysinfo", "os", "features", "cpu", "clock",
        "on_poweroff", "on_reboot", "on_crash", "pm",
    ]
    /// The same for devices that are taken as they are: nothing in them names anything of a host.
    private static let plainDevices: Set<String> = [
        "controller", "video", "input", "memballoon", "watchdog", "panic", "sound", "audio", "hub", "memory", "vsock",
    ]

    func make() throws(Failure) -> XMLNode {
        guard offered.name == "domain", let devices = offered.first("devices") else {
            throw Failure(.invalidParameters, "the other host does not give the definition of a guest")
        }
        var document = offered
        var children: [XMLNode] = []
        for child in document.children {
            switch child.name {
            // Of this host; arguments for QEMU itself are never taken from another.
            case "seclabel", "cputune", "numatune": continue
            case "vcpu":
                var processors = child
                processors["cpuset"] = own.first("vcpu")?["cpuset"]
                children.append(processors)
                children += own.all("cputune") + own.all("numatune")
            case "os": children.append(try system(child))
            case "devices":
                var mine = devices
                mine.children = []
                for device in devices.children where device.name != "emulator" {
                    mine.children.append(try self.device(device))
                }
                try requireSingle(mine)
                children.append(mine)
            case let name where Self.known.contains(name): children.append(child)
            default:
                throw Failure(
                    .conflict, "the guest's definition has a part '\(child.name.prefix(64))', which is not taken")
            }
        }
        document.attributes = document.attributes.filter { $0.0 == "type" }
        document.children = children
        return document
    }

    /// The firmware is this host's own.
    private func system(_ system: XMLNode) throws(Failure) -> XMLNode {
        var system = system
        let mine = own.first("os")
        for part in system.children {
            switch part.name {
            case "type", "boot", "bootmenu", "bios", "smbios", "firmware": continue
            case "loader", "nvram": continue
            default: throw Failure(.conflict, "the guest boots from files of its host (\(part.name.prefix(64)))")
            }
        }
        system.children.removeAll { ["loader", "nvram"].contains($0.name) }
        system.children += (mine?.all("loader") ?? []) + (mine?.all("nvram") ?? [])
        return system
    }

    /// Throws for a disk, or a NIC, that is there twice: two of one file would write over each other.
    private func requireSingle(_ devices: XMLNode) throws(Failure) {
        let files = devices.all("disk").compactMap { $0.first("source")?["file"] }
        let macs = devices.all("interface").compactMap { $0.first("mac")?["address"]?.lowercased() }
        guard Set(files).count == files.count, Set(macs).count == macs.count else {
            throw Failure(.conflict, "the guest has a disk or a NIC twice")
        }
    }

    private func device(_ device: XMLNode) throws(Failure) -> XMLNode {
        switch device.name {
        case "disk": return try disk(device)
        case "interface": return try nic(device)
        case "serial", "console": return try port(device)
        case "channel": return try channel(device)
        case "graphics": return try graphics(device)
        case "rng": return try random(device)
        case let name where Self.plainDevices.contains(name): return device
        default:
            throw Failure(
                .conflict,
                "the guest has a device of the kind '\(device.name.prefix(64))', which cannot go to another host")
        }
    }

    private func random(_ device: XMLNode) throws(Failure) -> XMLNode {
        guard let backend = own.first("devices/rng/backend") else {
            throw Failure(.conflict, "the guest has a random device, which it is not to have here")
        }
        var device = device
        device.children = device.children.map { $0.name == "backend" ? backend : $0 }
        return device
    }

    private func disk(_ disk: XMLNode) throws(Failure) -> XMLNode {
        var disk = disk
        guard disk["type"] == "file", let path = disk.first("source")?["file"] else {
            throw Failure(.conflict, "the guest has a disk that is no file")
        }
        let name = path.split(separator: "/").last.map(String.init) ?? ""
        let kept: Set = [
            "driver", "target", "iotune", "readonly", "serial", "boot", "address", "alias", "wwn", "product", "vendor",
        ]
        disk.children.removeAll { !kept.contains($0.name) }
        guard name != InstanceFolder.configDriveName else {
            // Of another format its bytes, which the other host gives, would name files of this one.
            guard disk.first("driver")?["type"] == "raw" else {
                throw Failure(.conflict, "the config drive is not of the format raw at the other host")
            }
            disk.children.append(XMLNode("source", ["file": folder.configDrive]))
            return disk
        }
        guard let mine = disks[name] else {
            throw Failure(.conflict, "the guest has a disk '\(name.prefix(64))', which it is not to have here")
        }
        guard disk.first("driver")?["type"] == mine.format.rawValue else {
            throw Failure(.conflict, "the disk \(name) is not of the format \(mine.format.rawValue) at the other host")
        }
        disk.children.append(XMLNode("source", ["file": mine.path]))
        disk.children.append(backing(mine))
        return disk
    }

    /// With the whole chain given libvirt reads no header to find it.
    private func backing(_ disk: GuestDisk) -> XMLNode {
        guard let backing = disk.backing else { return XMLNode("backingStore") }
        return XMLNode("backingStore", ["type": "file"]) {
            XMLNode("format", ["type": "raw"])
            XMLNode("source", ["file": backing])
            XMLNode("backingStore")
        }
    }

    private func nic(_ nic: XMLNode) throws(Failure) -> XMLNode {
        var nic = nic
        let mac = nic.first("mac")?["address"]?.lowercased() ?? ""
        guard let mine = interfaces.first(where: { $0.macAddress.lowercased() == mac }) else {
            throw Failure(.conflict, "the guest has a NIC \(mac.prefix(32)), which it is not to have here")
        }
        let source: XMLNode
        switch binding.binding(of: mine) {
        case .libvirt(let name):
            nic["type"] = "network"
            source = XMLNode("source", ["network": name])
        case .bridge(let name):
            nic["type"] = "bridge"
            source = XMLNode("source", ["bridge": name])
        }
        let kept: Set = [
            "mac", "model", "driver", "bandwidth", "mtu", "address", "alias", "link", "boot", "rom", "coalesce",
        ]
        guard nic.first("rom")?["file"] == nil else { throw Failure(.conflict, "a NIC has a file of its host") }
        nic.children.removeAll { !kept.contains($0.name) }
        nic.children.insert(source, at: min(1, nic.children.count))
        return nic
    }

    private func port(_ port: XMLNode) throws(Failure) -> XMLNode {
        var port = port
        let number = port.first("target")?["port"]
        switch port["type"] {
        case "pty": port.children.removeAll { $0.name == "source" }
        case "tcp":
            let same = own.all("devices/" + port.name).first {
                $0["type"] == "tcp" && $0.first("target")?["port"] == number
            }
            guard let source = same?.first("source") else {
                throw Failure(.conflict, "a serial port of the guest listens, which this host's do not")
            }
            port.children = port.children.map { $0.name == "source" ? source : $0 }
        default: throw Failure(.conflict, "a serial port of the guest leads to something of its host")
        }
        let kept: Set = ["source", "protocol", "log", "target", "address", "alias"]
        port.children = port.children.filter { kept.contains($0.name) }.map { child in
            guard child.name == "log" else { return child }
            var log = child
            // What was written before the move is there already.
            (log["file"], log["append"]) = (folder.consoleLog, "on")
            return log
        }
        port["tty"] = nil
        return port
    }

    /// libvirt chooses the sockets of channels itself.
    private func channel(_ channel: XMLNode) throws(Failure) -> XMLNode {
        guard ["unix", "spicevmc"].contains(channel["type"]) else {
            throw Failure(.conflict, "a channel of the guest leads to something of its host")
        }
        var channel = channel
        channel.children.removeAll { !["target", "address", "alias"].contains($0.name) }
        return channel
    }

    private func graphics(_ graphics: XMLNode) throws(Failure) -> XMLNode {
        guard graphics["type"] == "vnc" else {
            throw Failure(.conflict, "the guest's screen is of another kind than VNC")
        }
        var graphics = graphics
        (graphics["port"], graphics["autoport"]) = ("-1", "yes")
        (graphics["listen"], graphics["socket"], graphics["websocket"]) = (vncAddress, nil, nil)
        graphics.children.removeAll { $0.name == "listen" }
        return graphics
    }
}

extension LiveDisk {
    /// The disks of a guest's definition, as its host has them. Blocks.
    static func all(in document: XMLNode, _ folder: InstanceFolder) throws(Failure) -> [LiveDisk] {
        var found: [LiveDisk] = []
        for disk in document.all("devices/disk") where disk["device"] == "disk" {
            guard let path = disk.first("source")?["file"], Files.parent(path) == folder.path,
                let name = path.split(separator: "/").last.map(String.init), MovedName.isDisk(name),
                let target = disk.first("target")?["dev"],
                let format = disk.first("driver")?["type"].flatMap({ DiskFormat(rawValue: $0) })
            else { throw Failure(.conflict, "the guest has a disk that cannot go to another host while it runs") }
            let header = format == .qcow2 ? try OverlayHeader.read(path) : nil
            guard let size = header?.virtualSizeBytes ?? Files.size(path) else {
                throw Failure(.storage, "there is no file \(path)")
            }
            found.append(
                LiveDisk(
                    name: name, target: target, format: format, sizeBytes: size,
                    dataBytes: Files.allocatedBytes(path) ?? 0,
                    backing: header?.backing?.split(separator: "/").last.map(String.init)))
        }
        return found
    }
}
