public import Model
public import RPC

/// The kinds of durable tasks that the API inserts and the conductor carries through.
public enum TaskKind {
    public static let build = "build"
    public static let delete = "delete"
    /// Whatever is done to a guest that is on a host.
    public static let guest = "guest"
    /// Makes a guest's disks afresh, from another image where its host may have that.
    public static let rebuild = "rebuild"
    /// Copies the root disk of a server into an image.
    public static let snapshot = "snapshot"
    /// The same, after which the oldest backups of the kind make room.
    public static let backup = "backup"
    /// Removes the backups of a kind.
    public static let rotateBackups = "rotate_backups"
    /// Takes a shelved instance from its host.
    public static let offload = "offload"
    /// Builds a shelved instance that is on no host, from the image of its disk.
    public static let unshelve = "unshelve"
    /// Several tasks of one request: succeeds when all have, cancels them when it is cancelled.
    public static let batch = "batch"
    /// Removes from one host what an attempt may have left there; has no action of its own.
    public static let cleanup = "cleanup"
    /// Has images in the cache of one host before they are needed there.
    public static let cacheImages = "cache_images"
    /// Takes a server that is off for the time to another host, another size, or both.
    public static let move = "move"
    /// Removes the way back from a move.
    public static let confirmMove = "confirm_move"
    /// Goes back to where a move came from.
    public static let revertMove = "revert_move"
    /// Has one host give back what it may have promised to a move; has no action of its own.
    public static let release = "release"
    /// Starts a server of a host that is dead on another one.
    public static let evacuate = "evacuate"

    /// Carries a guest to another host while it runs.
    public static let liveMigrate = "live_migrate"
    /// Has one host remove what it still has of a guest that has arrived elsewhere; has no action of its own.
    public static let leave = "leave"

    public static let all: Set<String> = [
        build, delete, guest, rebuild, snapshot, backup, rotateBackups, offload, unshelve, batch, cleanup,
        cacheImages, move, confirmMove, revertMove, release, liveMigrate, leave, evacuate,
    ]

    /// Those that need the guest's host.
    public static let onHost: Set<String> = [guest, rebuild, snapshot, backup]

    /// The kinds that can be run again from the beginning when they have failed.
    public static let repeatable: Set<String> = [delete, offload, cleanup, cacheImages, release, leave]
}

/// State of a `build` or `unshelve` task. The API fills the first members, the conductor's steps the others.
public struct BuildTaskState: Sendable, Hashable, Codable {
    public var instance: InstanceID
    public var image: ImageReference
    /// The shelved disk that an `unshelve` is made from, and that is removed in the end; `image` is read from its record.
    public var shelvedImage: ImageID?
    /// Removed by the step that has handed it to a host for good.
    public var adminPassword: String?
    /// Likewise.
    public var files: [InjectedFile]?
    /// The chosen host first, then the alternates; `nil` before scheduling.
    public var candidates: [HostName]?
    /// Index into `candidates` of the host that is being tried.
    public var attempt: Int
    /// Whether the host of `attempt` has the command, and under which epoch.
    public var dispatchedEpoch: Int64?
    /// Since when the host of `attempt` cannot be reached; `nil` while it can.
    public var unreachableSince: Timestamp?
    /// Why each earlier host failed, in order.
    public var failures: [HostFailure]

    public init(
        instance: InstanceID, image: ImageReference, adminPassword: String?, files: [InjectedFile]? = nil,
        shelvedImage: ImageID? = nil
    ) {
        (self.instance, self.image, self.adminPassword) = (instance, image, adminPassword)
        self.shelvedImage = shelvedImage
        self.files = files
        candidates = nil
        attempt = 0
        dispatchedEpoch = nil
        unreachableSince = nil
        failures = []
    }
}

/// One host's failed attempt at a build.
public struct HostFailure: Sendable, Hashable, Codable {
    public var host: HostName
    public var failure: Failure

    public init(host: HostName, failure: Failure) { (self.host, self.failure) = (host, failure) }
}

/// State of a `delete` task: the API fills in the instance, the steps the rest.
public struct DeleteTaskState: Sendable, Hashable, Codable {
    public var instance: InstanceID
    public var host: HostName?
    public var dispatchedEpoch: Int64?
    /// Set when the record was closed before the host had answered, because the host is down.
    public var isRecordDeleted: Bool

    public init(instance: InstanceID) {
        self.instance = instance
        host = nil
        dispatchedEpoch = nil
        isRecordDeleted = false
    }
}

/// Which backups of a server are kept.
public struct BackupRotation: Sendable, Hashable, Codable {
    /// As the user calls the kind: `daily`.
    public var type: String
    /// How many of the kind stay.
    public var keep: Int

    public init(type: String, keep: Int) { (self.type, self.keep) = (type, keep) }
}

/// State of a `rotate_backups` task.
public struct RotationTaskState: Sendable, Hashable, Codable {
    public var instance: InstanceID
    public var rotation: BackupRotation?

    public init(instance: InstanceID, rotation: BackupRotation) {
        (self.instance, self.rotation) = (instance, rotation)
    }
}

/// State of a `guest`, `rebuild`, `snapshot` or `backup` task.
public struct GuestTaskState: Sendable, Hashable, Codable {
    public var instance: InstanceID
    /// Without its secrets once a host has it for good.
    public var command: GuestCommand
    public var dispatchedEpoch: Int64?
    /// What follows a backup.
    public var rotation: BackupRotation?

    /// The image of a shelved disk that is of no use once the task has succeeded.
    public var spentImage: ImageID?
    /// When the host has taken the command, under `dispatchedEpoch`.
    public var sentAt: Timestamp?
    /// Since when the host cannot be reached with the command; `nil` while it can.
    public var unreachableSince: Timestamp?
    /// Set once the host has answered that it cancels the command, or that it does not.
    public var isCancelAnswered: Bool?

    /// What a rebuild's guest was made from: the record names it again when the rebuild fails before it has begun.
    public var formerImage: FormerImage?
    /// Set while it is asked whether the host may have a rebuild's new image: no host has heard of the command then.
    public var isHostInQuestion: Bool?

    public init(
        instance: InstanceID, command: GuestCommand, rotation: BackupRotation? = nil, spentImage: ImageID? = nil,
        formerImage: FormerImage? = nil
    ) {
        (self.instance, self.command, self.rotation, self.spentImage) = (instance, command, rotation, spentImage)
        self.formerImage = formerImage
        dispatchedEpoch = nil
    }
}

/// The image that an instance's disk was made from, with what the image said then.
public struct FormerImage: Sendable, Hashable, Codable {
    public var id: ImageID
    public var properties: [String: String]?

    public init(id: ImageID, properties: [String: String]?) { (self.id, self.properties) = (id, properties) }
}

/// State of an `offload` task: the API fills in the instance, the step the rest.
public struct OffloadTaskState: Sendable, Hashable, Codable {
    public var instance: InstanceID
    public var host: HostName?
    public var dispatchedEpoch: Int64?

    public init(instance: InstanceID) {
        self.instance = instance
        host = nil
        dispatchedEpoch = nil
    }
}

/// State of a `batch` task.
public struct BatchTaskState: Sendable, Hashable, Codable {
    public var children: [TaskID]

    public init(children: [TaskID]) { self.children = children }
}

/// State of a `cache_images` task.
public struct CacheImagesTaskState: Sendable, Hashable, Codable {
    public var host: HostName
    public var images: [ImageReference]
    /// How many of them the host has, from the first on.
    public var cached: Int

    public init(host: HostName, images: [ImageReference]) {
        (self.host, self.images) = (host, images)
        cached = 0
    }
}

/// State of a `cleanup`, `release` or `leave` task.
public struct CleanupTaskState: Sendable, Hashable, Codable {
    public var instance: InstanceID
    public var host: HostName
    public var dispatchedEpoch: Int64?
    /// Of a release or a leave.
    public var migration: MigrationID?
    /// Of a release: whether the host is the one that the instance was to leave.
    public var isSource: Bool?
    /// How often the host has tried, and failed.
    public var attempts: Int?

    public init(instance: InstanceID, host: HostName) {
        (self.instance, self.host) = (instance, host)
        dispatchedEpoch = nil
    }
}

/// State of a `move`, `confirm_move`, `revert_move`, `live_migrate` or `evacuate` task. The API fills the first members,
/// the conductor's steps the others.
public struct MoveTaskState: Sendable, Hashable, Codable {
    public var instance: InstanceID
    public var migration: MigrationID
    /// `nil` for a migration, which keeps the flavor.
    public var newFlavor: Flavor?
    /// The only host that comes into question; `nil` for any.
    public var requestedHost: HostName?
    /// Whether the instance's own host comes into question (`allow_resize_to_same_host`).
    public var mayStay: Bool
    /// The chosen host first, then the alternates; `nil` before scheduling.
    public var candidates: [HostName]?
    /// Index into `candidates` of the host that is being tried.
    public var attempt: Int
    /// Whether the host of the part that is under way has its command, and under which epoch.
    public var dispatchedEpoch: Int64?
    /// When that host has taken the command.
    public var sentAt: Timestamp?
    /// Since when it cannot be reached; `nil` while it can.
    public var unreachableSince: Timestamp?
    /// Why each earlier candidate failed, in order.
    public var failures: [HostFailure]
    /// Why the move is being taken back; `nil` while it goes on.
    public var failure: Failure?
    /// Set when the source has its guest again.
    public var isBack: Bool?
    /// Set when it cannot have it again.
    public var isLost: Bool?
    /// Set once the source may have touched the guest: without its word that it has it again the instance is lost.
    public var isTouched: Bool?
    /// What the guest's disk stands on, as it was when room was reserved.
    public var image: ImageReference?
    /// How often the destination could not give back what it has.
    public var releases: Int?
    /// Of a live migration, as what follows: whether the scheduler is not asked about the requested host.
    public var isForced: Bool?
    /// How the guest's disks and memory are to be carried.
    public var request: LiveRequest?
    /// The host that the guest comes from.
    public var source: HostName?
    /// The host that the guest was sent to.
    public var target: HostName?
    /// Set once the source has said that the guest is at its destination, and nowhere else.
    public var isSent: Bool?
    /// Set when an operator has called the source dead while it was to send: then the destination is asked whether it has
    /// the guest.
    public var isSourceDead: Bool?
    /// Set once the source has answered that it breaks the sending off, or that it does not.
    public var isCancelAnswered: Bool?
    /// Of an evacuation.
    public var evacuation: EvacuationRequest?

    public init(
        instance: InstanceID, migration: MigrationID, newFlavor: Flavor? = nil, requestedHost: HostName? = nil,
        mayStay: Bool = false
    ) {
        (self.instance, self.migration, self.newFlavor) = (instance, migration, newFlavor)
        (self.requestedHost, self.mayStay) = (requestedHost, mayStay)
        (attempt, failures) = (0, [])
    }
}
