public import Model

/// A disk of a guest that is to be carried over while it runs.
public struct LiveDisk: Sendable, Hashable, Codable {
    /// Of its file in the instance's folder.
    public var name: String
    /// The guest's name of it: `vda`.
    public var target: String
    public var format: DiskFormat
    public var sizeBytes: Int64
    /// Bytes that its file takes.
    public var dataBytes: Int64
    /// The file of the image cache that it stands on; `nil` for one that stands on nothing.
    public var backing: String?

    public init(
        name: String, target: String, format: DiskFormat, sizeBytes: Int64, dataBytes: Int64, backing: String?
    ) {
        (self.name, self.target, self.format) = (name, target, format)
        (self.sizeBytes, self.dataBytes, self.backing) = (sizeBytes, dataBytes, backing)
    }
}

/// What a source tells the destination of its running guest.
public struct LiveOffer: Sendable, Hashable, Codable {
    /// The guest's definition as it runs, without what is the host's own.
    public var xml: String
    /// As `HostCapacity` has them.
    public var hypervisorType: String
    public var hypervisorVersion: Int
    public var disks: [LiveDisk]
    /// Files beside the disks, and those that no two hosts have the same but the disks stand on: as `MovedFiles` gives them.
    public var files: [MovedFile]

    public init(
        xml: String, hypervisorType: String, hypervisorVersion: Int, disks: [LiveDisk], files: [MovedFile]
    ) {
        (self.xml, self.disks, self.files) = (xml, disks, files)
        (self.hypervisorType, self.hypervisorVersion) = (hypervisorType, hypervisorVersion)
    }
}

/// What the destination answers once it is ready for the guest.
public struct LiveAnswer: Sendable, Hashable, Codable {
    /// The guest's definition as it is to be there.
    public var xml: String
    /// Targets of the disks whose content is to be sent; none where both hosts have the same folder.
    public var copiedDisks: [String]
    /// Where the destination's agent takes the channels in; `nil` until it does.
    public var port: UInt16?

    public init(xml: String, copiedDisks: [String]) { (self.xml, self.copiedDisks) = (xml, copiedDisks) }
}

/// A way by which a guest comes over: a unix socket on either host.
public enum LiveChannel: String, Sendable, Hashable, CaseIterable {
    /// From libvirt to libvirt.
    case control
    case memory
    case disks
}

/// This host's ends of the channels, at the source.
public struct LiveSockets: Sendable, Hashable {
    /// Where they listen.
    public var paths: [LiveChannel: String]
    /// Whose process connects to memory and disks; `nil` for root's.
    public var owner: UInt32?

    public init(paths: [LiveChannel: String], owner: UInt32?) { (self.paths, self.owner) = (paths, owner) }
}

/// How a source carries its guest over.
public struct LivePlan: Sendable, Hashable {
    public var migration: MigrationID
    /// As the conductor names it.
    public var destination: HostName
    public var answer: LiveAnswer
    public var sockets: LiveSockets
    /// Whether the guest is to run wherever it is in the end; else it stands still.
    public var isRunning: Bool

    public init(
        migration: MigrationID, destination: HostName, answer: LiveAnswer, sockets: LiveSockets, isRunning: Bool
    ) {
        (self.migration, self.destination, self.answer) = (migration, destination, answer)
        (self.sockets, self.isRunning) = (sockets, isRunning)
    }
}

/// What a source's hypervisor knows of a guest that was being sent.
public enum Departure: Sendable, Hashable {
    /// It is at the destination, and nowhere here any more.
    case left
    /// It is here, and on.
    case stayed
    /// It is off here, and the hypervisor does not know that it has gone: it was started anew in the very moment, or the
    /// guest has ended by itself. What the destination has is the answer.
    case unknown
}

/// The other host of a live migration, by its agent. Every call throws `Failure`, retriable where the other host may be
/// there again soon.
public protocol LivePeer: Sendable {
    /// Of the source: its guest.
    func offer() async throws -> LiveOffer
    /// Of the source: the files that an offer names, each as long as it was then.
    func files(of offer: LiveOffer) -> any MovedFiles
    /// Of the destination: what it is ready for.
    func answer() async throws -> LiveAnswer
    /// Has the destination's guest go on, of which the source has nothing any more.
    func go() async throws
    /// Whether the destination has all of the guest. It says so for as long as it has it, also where nothing is open any more.
    func hasArrived() async throws -> Bool
    /// Listens at the plan's sockets for as long as `body` runs, and carries each connection to the destination's end of the
    /// channel.
    func listen(_ plan: LivePlan, while body: @Sendable () async throws -> Void) async throws
}

/// What a hypervisor driver does in a live migration. All methods throw as those of `VirtDriver`.
public protocol LiveDriver: Sendable {
    /// Looks whether the guest can be carried over while it runs, and marks its folder, so that a destination that sees the
    /// mark knows that it has the same folder. `.conflict` for a guest that does not run, or has what cannot go.
    func offerGuest(_ guest: GuestSpecification, for migration: MigrationID) async throws -> LiveOffer
    /// Takes the mark away; nothing where it is another migration's.
    func withdrawOffer(_ id: InstanceID, of migration: MigrationID) async throws
    /// Just `count` bytes, at most 4 MiB, of a file that the offer names.
    func readOffered(_ id: InstanceID, file: String, at offset: Int64, count: Int) async throws -> [UInt8]
    /// Makes what the guest needs here before it comes: its folder and disks, unless this host has the same folder. Refuses
    /// what this host cannot run. `images` and NICs are there. Done again it gives the same.
    func receiveGuest(
        _ guest: GuestSpecification, of migration: MigrationID, _ offer: LiveOffer, from files: any MovedFiles,
        isBlockMigration: Bool?
    ) async throws -> LiveAnswer
    /// The socket at which a channel's connections end here, at the destination.
    func liveSocket(_ channel: LiveChannel, of migration: MigrationID) async throws -> String
    /// Where this host's ends are to listen, at the source; in folders that are made for it.
    func makeLiveSockets(of migration: MigrationID) async throws -> LiveSockets
    /// Removes those folders.
    func removeLiveSockets(of migration: MigrationID) async throws
    /// Carries the guest over. Returns when it is at the destination, where it stands still, and nowhere here any more; throws
    /// when it is here and goes on. Cancelled it gives up if that is still possible. `progress` is told about once a second.
    /// `gone` is called when the last process that could run the guest here has ended, and before this returns; not by every
    /// driver.
    func sendGuest(
        _ id: InstanceID, _ plan: LivePlan,
        progress: @escaping @Sendable (MigrationProgress, _ isPostCopy: Bool) async -> Void,
        gone: @escaping @Sendable () async -> Void
    ) async throws
    /// Finds out where a guest is that was being sent when nobody listened any more: ends what is under way, and has it go on
    /// where it is here and `isRunning`.
    func departure(_ id: InstanceID, isRunning: Bool) async throws -> Departure
    /// Whether all of a guest that was being sent to this host is here.
    func hasArrived(_ id: InstanceID) async throws -> Bool
    /// Has a guest that is being sent go over soon; whether by post-copy. `.conflict` when none is being sent.
    func forceGuest(_ id: InstanceID) async throws -> Bool
    /// Lets a guest that has come over go on, unless it stood still before. `.notFound` when it is not here.
    func goOn(_ id: InstanceID) async throws
    /// Makes a guest that has come over this host's own for good.
    func settleGuest(_ guest: GuestSpecification, of migration: MigrationID) async throws
}
