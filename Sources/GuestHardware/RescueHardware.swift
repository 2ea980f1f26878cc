/// How a guest is rescued with an image that says so: all of the guest's own disks keep their place, and the rescue's is
/// added after them and booted from first.
///
/// An image that says nothing takes the place of the root disk.
public struct RescueHardware: Sendable, Hashable {
    public var device: RescueDevice
    /// `nil`: virtio for a disk, what the machine type has for a CD-ROM.
    public var bus: DiskBus?

    /// What the properties of the image that a guest is to be rescued with say; `nil` when they say nothing of it. Its
    /// other properties steer no guest that has another disk of its own.
    public init?(imageProperties: [String: String]) throws(HardwareError) {
        let own = imageProperties.filter { Self.names.contains($0.key) }
        try self.init(try HardwareReader(specs: [:], properties: own))
    }

    init?(_ reader: HardwareReader) throws(HardwareError) {
        let given: RescueDevice? = try reader.choice(property: "hw_rescue_device")
        bus = try reader.choice(property: "hw_rescue_bus")
        guard given != nil || bus != nil else { return nil }
        device = given ?? .disk
        if device == .cdrom, bus == .virtio, let setting = reader.property("hw_rescue_bus") {
            throw HardwareError(setting, "a CD-ROM cannot be on virtio")
        }
    }

    private static let names: Set<String> = ["hw_rescue_device", "hw_rescue_bus"]
}
