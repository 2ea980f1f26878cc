internal import GuestHardware
internal import XML

extension DomainDocument {
    /// Graphics and the card behind them; a guest without the one has no use for the other.
    var screen: [XMLNode] {
        guard let address = settings.vncAddress else { return [] }
        let model = hardware.display.videoModel ?? .virtio
        let memory = model == .none ? nil : hardware.display.videoMemoryMiB
        return [
            XMLNode("graphics", ["type": "vnc", "port": "-1", "autoport": "yes", "listen": address]),
            XMLNode("video") {
                XMLNode("model", ["type": model.rawValue, "vram": memory.map { String($0 * 1_024) }])
            },
        ]
    }

    /// A tablet tells where the pointer is, which VNC needs; a mouse tells only how it moves.
    var input: [XMLNode] {
        inputs.map { XMLNode("input", ["type": $0.type, "bus": $0.bus.rawValue]) }
    }

    private var inputs: [(type: String, bus: InputBus)] {
        guard settings.vncAddress != nil else { return [] }
        let display = hardware.display
        let bus = display.inputBus ?? .usb
        guard bus != .usb || display.usb != USBModel.none else { return [] }
        let pointer = display.pointer ?? (display.inputBus == nil ? settings.pointer : .usbTablet)
        var found: [(type: String, bus: InputBus)] = []
        if pointer == .usbTablet { found.append(("tablet", bus)) }
        if display.inputBus != nil || settings.isARM { found.append(("keyboard", bus)) }
        return found
    }

    /// None where nothing hangs on it, since an idle one costs the host wake-ups; libvirt's default where something
    /// does and nobody chose.
    var usbController: XMLNode? {
        if let model = hardware.display.usb {
            return XMLNode("controller", ["type": "usb", "index": "0", "model": model.rawValue])
        }
        let isUsed =
            inputs.contains { $0.bus == .usb } || disks.contains { $0.bus == DiskBus.usb.rawValue }
            || hardware.display.sound == .usb
        return isUsed ? nil : XMLNode("controller", ["type": "usb", "index": "0", "model": "none"])
    }

    var sound: XMLNode? { hardware.display.sound.map { XMLNode("sound", ["model": $0.rawValue]) } }
}
