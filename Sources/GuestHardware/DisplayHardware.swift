/// What a person at a guest's console has before them.
public struct DisplayHardware: Sendable, Hashable {
    /// `nil`: what is usual on the guest's architecture.
    public var videoModel: VideoModel?
    /// Video memory; `nil` is the hypervisor's default.
    public var videoMemoryMiB: Int?
    /// `nil`: what the host's configuration says.
    public var pointer: PointerModel?
    /// The bus of tablet and keyboard; `nil` is a tablet on USB and no keyboard of its own.
    public var inputBus: InputBus?
    public var sound: SoundModel?
    /// `nil`: the hypervisor's default, and none where no device needs one.
    public var usb: USBModel?

    init(_ reader: HardwareReader) throws(HardwareError) {
        videoModel = try reader.choice(property: "hw_video_model")
        videoMemoryMiB = try Self.videoMemory(reader)
        pointer = try reader.choice(property: "hw_pointer_model")
        inputBus = try reader.choice(property: "hw_input_bus")
        sound = try reader.choice(agreed: "sound_model")
        usb = try reader.choice(agreed: "usb_model")
        if usb == USBModel.none, let setting = try reader.agreed("usb_model") {
            let users = [
                ("hw_input_bus", InputBus.usb.rawValue), ("hw_disk_bus", DiskBus.usb.rawValue),
                ("hw_cdrom_bus", CDROMBus.usb.rawValue), ("hw_pointer_model", PointerModel.usbTablet.rawValue),
                ("hw_sound_model", SoundModel.usb.rawValue),
            ]
            for (name, value) in users where reader.properties[name] == value {
                throw HardwareError(setting, "\(name) = \(value) needs one")
            }
        }
    }

    /// An image gets what it asks for up to what its flavor allows, which is nothing unless it says so.
    private static func videoMemory(_ reader: HardwareReader) throws(HardwareError) -> Int? {
        guard let setting = reader.property("hw_video_ram") else { return nil }
        let wanted = try setting.whole(0...Int.max)
        let allowed = try reader.whole(spec: "hw_video:ram_max_mb") ?? 0
        guard wanted <= allowed else {
            throw HardwareError(setting, "the flavor allows at most \(allowed) MB (hw_video:ram_max_mb)")
        }
        return wanted == 0 ? nil : wanted
    }
}
