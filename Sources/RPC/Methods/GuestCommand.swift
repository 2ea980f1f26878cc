public import Model

/// What a host can be told to do with a guest that it has. Built and deleted is by methods of their own.
public enum GuestCommand: Sendable, Hashable, Codable {
    case start
    /// Asks the guest to shut down; pulls the plug after the image's `os_shutdown_timeout`, or the host's.
    case stop
    case softReboot
    /// Resets the guest and makes its domain afresh from the record.
    case hardReboot
    case pause
    case unpause
    /// Saves the guest's memory to disk and turns it off.
    case suspend
    /// Goes on from the saved memory.
    case resume
    /// Boots the guest from another disk, with its own one beside it.
    case rescue(GuestMaterial)
    case unrescue
    /// Makes the guest's disks afresh; it stays off when it was off.
    case rebuild(GuestMaterial)
    case snapshot(SnapshotOrder)
    /// Shuts the guest down and uploads its disk; `nil` where nothing is to be uploaded.
    case shelve(SnapshotOrder?)
    /// Pulls the plug; all that the guest has stays.
    case softDelete
    /// Powers on what was deleted softly.
    case restore
    /// Sets the administrator's password through the guest agent.
    case setPassword(String)
    case attachInterface(InterfaceOrder)
    /// Removes the NIC with this MAC.
    case detachInterface(String)

    /// Unique; the end of the operation's kind in the agent's journal.
    public var name: String {
        switch self {
        case .start: "start"
        case .stop: "stop"
        case .softReboot: "soft_reboot"
        case .hardReboot: "hard_reboot"
        case .pause: "pause"
        case .unpause: "unpause"
        case .suspend: "suspend"
        case .resume: "resume"
        case .rescue: "rescue"
        case .unrescue: "unrescue"
        case .rebuild: "rebuild"
        case .snapshot: "snapshot"
        case .shelve: "shelve"
        case .softDelete: "soft_delete"
        case .restore: "restore"
        case .setPassword: "set_password"
        case .attachInterface: "attach_interface"
        case .detachInterface: "detach_interface"
        }
    }

    /// The same command without what no record may hold once it has been used.
    public var withoutSecrets: GuestCommand {
        switch self {
        case .rescue(let material): .rescue(material.withoutSecrets)
        case .rebuild(let material): .rebuild(material.withoutSecrets)
        case .setPassword: .setPassword("")
        default: self
        }
    }

    /// Whether a host that has begun the command may still be able to cancel it; one that has not begun always is.
    public var isCancellableOnHost: Bool {
        switch self {
        case .snapshot, .rescue, .rebuild: true
        default: false
        }
    }

    /// How long a host that is up may take from having the command to reporting its end: more than the command's steps
    /// may take there with all that is undone, and with what waits before them. Beyond that its agent is broken.
    public var hostLimit: Duration {
        switch self {
        // Copied and sent in hours; hosts make few copies at a time.
        case .snapshot, .shelve: .seconds(48 * 3_600)
        // Terabytes of memory take hours to write and to read.
        case .suspend, .resume: .seconds(12 * 3_600)
        default: .seconds(6 * 3_600)
        }
    }

    /// The longest `hostLimit` of any command.
    public static let longestHostLimit = Duration.seconds(48 * 3_600)

    /// Whether the guest's config drive is written anew, so that the command needs the user data.
    public var writesConfigDrive: Bool {
        switch self {
        case .rescue, .rebuild: true
        default: false
        }
    }
}

/// What a disk and a config drive are made of.
public struct GuestMaterial: Sendable, Hashable, Codable {
    public var image: ImageReference
    /// Written into the config drive and kept nowhere after that step.
    public var adminPassword: String?
    /// Likewise.
    public var files: [InjectedFile]

    public init(image: ImageReference, adminPassword: String? = nil, files: [InjectedFile] = []) {
        (self.image, self.adminPassword, self.files) = (image, adminPassword, files)
    }

    var withoutSecrets: GuestMaterial { GuestMaterial(image: image) }
}

/// A copy of the root disk to be uploaded as an image that the image service has a record of.
public struct SnapshotOrder: Sendable, Hashable, Codable {
    /// Whether the guest's file systems are frozen for the moment of the copy.
    public enum Quiesce: String, Sendable, Hashable, Codable {
        case no
        /// When its agent answers.
        case ifPossible = "if_possible"
        /// Without it the snapshot fails (`os_require_quiesce`).
        case required
    }
    public var image: ImageID
    public var format: DiskFormat
    public var quiesce: Quiesce

    public init(image: ImageID, format: DiskFormat, quiesce: Quiesce) {
        (self.image, self.format, self.quiesce) = (image, format, quiesce)
    }
}

/// A NIC to be added.
public struct InterfaceOrder: Sendable, Hashable, Codable {
    /// The address that the user wants; `nil` for any.
    public var ipv4Address: String?
    public var tag: String?

    public init(ipv4Address: String? = nil, tag: String? = nil) {
        (self.ipv4Address, self.tag) = (ipv4Address, tag)
    }
}

/// Do something with a guest that is there. The outcome follows by `conductor.report_operation`.
public enum OperateGuest: RPCMethod {
    public struct Params: Sendable, Hashable, Codable {
        public var header: CommandHeader
        public var command: GuestCommand
        /// The record as it is now, with the user data only where the command writes the config drive.
        public var instance: Instance

        public init(header: CommandHeader, command: GuestCommand, instance: Instance) {
            (self.header, self.command, self.instance) = (header, command, instance)
        }
    }
    public typealias Result = RPCConfirmation
    public static let version = RPCVersion(1, 1)
    public static func backport(_ params: Params, to version: RPCVersion) -> Params {
        Params(header: params.header, command: params.command, instance: params.instance.inFirstForm)
    }
    public static let name = "compute.operate_guest"
    public static let kind = RPCKind.cast
    public static let summary = "Starts, stops, pauses, rescues, rebuilds … an instance's guest."
}
