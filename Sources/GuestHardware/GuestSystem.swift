/// What an image says of the system in it, and of how to treat it.
public struct GuestSystem: Sendable, Hashable {
    public var isWindows: Bool
    /// Whether an agent runs in the guest: it gets the channel to be talked to.
    public var hasAgent: Bool
    /// Whether a snapshot may only be taken with the guest's file systems frozen.
    public var isQuiesceRequired: Bool
    /// How long the guest may take to shut down; `nil` is what the configuration says.
    public var shutdownTimeout: Duration?
    /// Whose password is meant when one is set; `nil` is the administrator of the system.
    public var administrator: String?
    public var configDrive: ConfigDriveWish

    init(_ reader: HardwareReader) throws(HardwareError) {
        isWindows = reader.property("os_type")?.value.lowercased() == "windows"
        hasAgent = try reader.flag(property: "hw_qemu_guest_agent") ?? false
        isQuiesceRequired = try reader.flag(property: "os_require_quiesce") ?? false
        shutdownTimeout = try reader.whole(property: "os_shutdown_timeout").map { .seconds($0) }
        administrator = reader.property("os_admin_user")?.value
        configDrive = try reader.choice(property: "img_config_drive") ?? .optional
    }

    /// The account that `administrator` means when the image names none.
    public var administratorName: String { administrator ?? (isWindows ? "Administrator" : "root") }
}
