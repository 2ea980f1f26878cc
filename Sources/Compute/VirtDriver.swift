public import HostTopology
public import Metadata
public import Model

/// All that a driver needs to make an instance's guest; kept in the agent's journal for as long as the instance is
/// here, so that a guest can be rebuilt without asking anybody.
public struct GuestSpecification: Sendable, Hashable, Codable {
    public var instance: Instance
    public var image: ImageReference
    /// The NICs in the order of their PCI slots; empty for an instance without network.
    public var interfaces: [NetworkInterface]
    /// The image that the guest is rescued with; `nil` for a guest that boots from its own disk.
    public var rescueImage: ImageReference?
    /// Where the guest is on the host's cells; `nil` for one that takes processors and memory as they come.
    public var placement: TopologyPlacement?
    /// The host's devices that are the guest's own; `nil` for none.
    public var devices: [PCIDevice]?
    /// Its shares of the host's devices; `nil` for none. They exist while the guest runs.
    public var mediatedDevices: [MediatedDevice]?
    /// By which move it came to this host, or to this size; `nil` for one that was built here.
    public var arrivedBy: MigrationID?
    /// By which live migration its disks were copied, or begun to be, to another host: when that has its guest, those here
    /// are out of date. `nil` for none.
    public var copiedBy: MigrationID?
    /// By which live migration it was begun to be sent to another host; `nil` for none.
    public var sentBy: MigrationID?

    public init(
        instance: Instance, image: ImageReference, interfaces: [NetworkInterface], rescueImage: ImageReference? = nil
    ) {
        (self.instance, self.image, self.interfaces) = (instance, image, interfaces)
        self.rescueImage = rescueImage
    }
}

/// What goes into a config drive and stays nowhere else.
public struct ConfigDriveSecrets: Sendable, Hashable {
    public var adminPassword: String?
    public var files: [InjectedFile]

    public init(adminPassword: String? = nil, files: [InjectedFile] = []) {
        (self.adminPassword, self.files) = (adminPassword, files)
    }
}

/// A copy of a root disk on the host, ready to be uploaded.
public struct SnapshotFile: Sendable, Hashable, Codable {
    public var path: String
    public var format: DiskFormat
    public var sizeBytes: Int64

    public init(path: String, format: DiskFormat, sizeBytes: Int64) {
        (self.path, self.format, self.sizeBytes) = (path, format, sizeBytes)
    }
}

/// Names a copy of a root disk: whose disk, and the copy's own name.
public struct SnapshotName: Sendable, Hashable {
    public var instance: InstanceID
    /// A uuid.
    public var name: String

    public init(instance: InstanceID, name: String) { (self.instance, self.name) = (instance, name) }
}

/// A guest as the hypervisor has it now.
public struct GuestObservation: Sendable, Hashable {
    public var id: InstanceID
    public var name: String
    public var powerState: PowerState
    /// Whether Apus made it: the domain's metadata says so. Guests of others are never touched.
    public var isOurs: Bool
    /// What a person should know about the state: that an I/O error halted the guest. `nil` where all is as usual.
    public var remark: String?
    /// The processors and memory of its definition; `nil` where they are not known.
    public var size: Resources?

    public init(
        id: InstanceID, name: String, powerState: PowerState, isOurs: Bool, remark: String? = nil,
        size: Resources? = nil
    ) {
        (self.id, self.name, self.powerState, self.isOurs) = (id, name, powerState, isOurs)
        (self.remark, self.size) = (remark, size)
    }

    /// Whether the hypervisor holds it, running or halted; what is unknown counts as on.
    var isOn: Bool {
        switch powerState {
        case .shutdown, .crashed: false
        case .noState, .running, .paused, .suspended: true
        }
    }
}

/// What the hypervisor tells by itself.
public enum GuestEvent: Sendable, Hashable {
    /// A guest changed; observe it to know more.
    case changed(InstanceID)
    /// The connection broke. Nothing is known of any guest until `resynchronise`.
    case disconnected
    /// Connected (again), or events were lost: compare everything.
    case resynchronise
}

/// What a host is and has, without what Apus has promised of it.
public struct HostCapacity: Sendable, Hashable {
    public var hypervisorHostname: String
    public var hypervisorType: String
    public var hypervisorVersion: Int
    public var total: Resources
    public var diskAvailableLeastGiB: Int?
    public var cpuModel: String?
    public var cpuVendor: String?
    public var architecture: String
    public var cpuTopology: CPUTopology
    public var cpuFeatures: [String]
    public var uptimeSeconds: Int64?
    /// What guests can have, by the names of the `os-traits` list, sorted.
    public var traits: [String] = []
    /// The NUMA cells; empty where the hypervisor does not tell them.
    public var cells: [HostCell] = []
    /// The kind of the instances' file system where other hosts may use it too (`nfs`); `nil` for a local one.
    public var sharedStorage: String?

    public init(
        hypervisorHostname: String, hypervisorType: String, hypervisorVersion: Int, total: Resources,
        diskAvailableLeastGiB: Int?, cpuModel: String?, cpuVendor: String?, architecture: String,
        cpuTopology: CPUTopology, cpuFeatures: [String], uptimeSeconds: Int64?
    ) {
        self.hypervisorHostname = hypervisorHostname
        self.hypervisorType = hypervisorType
        self.hypervisorVersion = hypervisorVersion
        self.total = total
        self.diskAvailableLeastGiB = diskAvailableLeastGiB
        self.cpuModel = cpuModel
        self.cpuVendor = cpuVendor
        self.architecture = architecture
        self.cpuTopology = cpuTopology
        self.cpuFeatures = cpuFeatures
        self.uptimeSeconds = uptimeSeconds
    }
}

/// Where an image's bytes come from: gives all bytes from `offset` on, in order. Called again, from where the bytes
/// broke off, after a failure that may not come again. Each call of `write` returns when the bytes are taken.
public typealias ImageSource =
    @Sendable (
        _ offset: Int64,
        _ write: @escaping @Sendable ([UInt8]) async throws -> Void
    ) async throws -> Void

/// A hypervisor as the agent drives it, in the steps of an instance's life.
///
/// Every method is idempotent: done twice it leaves what done once leaves, and the removing ones succeed when there is
/// nothing to remove. All throw `Failure`: `.hypervisor` for what libvirt refused, `.storage` for disks,
/// `.imageUnacceptable`, `.networkUnavailable`, `.notFound` for a guest that is not there, `.conflict` for a domain of
/// the same name or uuid that is not ours; `isRetriable` where another host, or the same one later, may succeed.
public protocol VirtDriver: LiveDriver {
    /// Connects and begins to deliver events. Fails when the hypervisor cannot be used at all.
    func start() async throws
    /// Ends events and connections; guests go on.
    func stop() async

    /// One consumer. Starts with `.resynchronise`; bounded, an overflow becomes `.resynchronise`.
    var events: AsyncStream<GuestEvent> { get }

    func capacity() async throws -> HostCapacity
    /// Every PCI device of the host.
    func hostDevices() async throws -> [PCIDevice]
    /// Every device of the host that can be shared, with the shares that exist.
    func mediatedDeviceParents() async throws -> [MediatedDeviceParent]
    /// Makes those of the mediated devices that do not exist: a host's boot takes them away.
    func createMediatedDevices(_ devices: [MediatedDevice]) async throws
    /// Removes those of the mediated devices that exist. Fails for one that a guest uses.
    func removeMediatedDevices(_ devices: [MediatedDevice]) async throws
    /// What Nova's monitor `cpu.virt_driver` measures of the host.
    func hostMetrics() async throws -> [HostMetric]
    /// Every domain of the hypervisor, ours or not. One bulk call.
    func guests() async throws -> [GuestObservation]
    /// One guest, or `nil` when the hypervisor has none of that id.
    func observe(_ id: InstanceID) async throws -> GuestObservation?

    /// Has the image in the cache: fetched through `source` if it is not there, inspected, its digest verified, written
    /// afresh as the base. One download however many ask. Refuses an image larger than `flavor`'s root disk, and disks
    /// that do not fit on the host. An image that is there stays for ten minutes at least.
    func prepareImage(_ image: ImageReference, for flavor: Flavor, source: @escaping ImageSource) async throws
    /// The same for no guest: only the image counts. Used or not, it stays as long as the cache keeps unused images.
    func cacheImage(_ image: ImageReference, source: @escaping ImageSource) async throws
    /// Reserves what the NICs of an instance need, and names them.
    func plugNetwork(_ instance: Instance) async throws -> [NetworkInterface]
    func unplugNetwork(_ id: InstanceID, _ interfaces: [NetworkInterface]) async throws
    /// The instance's folder with its disks at the flavor's sizes: root, ephemeral, swap.
    func createDisks(_ guest: GuestSpecification) async throws
    /// Every file of the instance, its folder included.
    func removeDisks(_ id: InstanceID) async throws
    /// Removes from the image cache what nothing uses any more. Seconds, on a slow file system more.
    func tidyImageCache() async throws
    /// Has none of the guests' console logs take more than `limit` bytes: of one that does the last half stays.
    func limitConsoleLogs(of guests: [InstanceID], to limit: Int64) async throws
    /// Writes the guest's config drive; that of the rescue when it is being rescued.
    func writeConfigDrive(_ guest: GuestSpecification, secrets: ConfigDriveSecrets) async throws
    /// Defines the domain from the record; replaces a definition of ours. With a rescue image the guest boots from the
    /// rescue's disk, and has its own ones beside it.
    func define(_ guest: GuestSpecification) async throws
    /// Powers on a defined guest, from its saved memory where there is some; nothing when it runs.
    func powerOn(_ id: InstanceID) async throws
    /// Asks the guest to shut down and waits; after `grace` (or at once when it is zero) pulls the plug.
    func powerOff(_ id: InstanceID, grace: Duration) async throws
    /// Asks the guest to reboot and waits until it has; `false` when it has not within `grace`.
    func softReboot(_ id: InstanceID, grace: Duration) async throws -> Bool
    /// Removes the domain's definition with its NVRAM, TPM state and managed save; the guest must be off.
    func undefine(_ id: InstanceID) async throws
    /// Stops the guest's processors; its memory stays.
    func pause(_ id: InstanceID) async throws
    /// Lets a paused guest go on.
    func unpause(_ id: InstanceID) async throws
    /// Saves the guest's memory to disk and turns it off; nothing when it is off and saved. As long as the memory takes
    /// to write; when the caller is cancelled the guest goes on.
    func suspend(_ id: InstanceID) async throws
    /// Powers on from the memory that `suspend` saved; nothing when the guest runs. `.notFound` when nothing is saved:
    /// never boots instead.
    func resume(_ id: InstanceID) async throws
    /// Removes the memory that `suspend` saved, so that the next start is a boot.
    func discardSavedMemory(_ id: InstanceID) async throws
    /// The rescue's root disk, from the image that `guest.rescueImage` names and that `prepareImage` has fetched.
    func createRescueDisks(_ guest: GuestSpecification) async throws
    /// The rescue's disks and config drive.
    func removeRescueDisks(_ id: InstanceID) async throws
    /// Writes a self-contained copy of the root disk as of one moment. A guest that runs goes on running; with
    /// `quiesce` its file systems are frozen for that moment. `name` is the copy's own, a uuid: the same again gives the
    /// copy that is there. `progress` is called with 0…1; first with 0 when the moment is past.
    func takeSnapshot(
        _ guest: GuestSpecification, name: String, order: SnapshotRequest,
        progress: @escaping @Sendable (Double) async -> Void
    ) async throws -> SnapshotFile
    /// Up to `count` bytes of the copy from `offset`; fewer at its end.
    func readSnapshot(_ snapshot: SnapshotFile, at offset: Int64, count: Int) async throws -> [UInt8]
    /// Ends what `takeSnapshot` has under way for `name`, thaws the guest, and removes the copy.
    func removeSnapshot(_ id: InstanceID, name: String) async throws
    /// The copies of which there is anything on this host, complete or not.
    func snapshots() async throws -> Set<SnapshotName>
    /// Sets a password through the guest agent. `.conflict` when the guest is off or has no agent that answers, `.timeout`
    /// when the agent took the request and says nothing.
    func setPassword(_ id: InstanceID, user: String, password: String) async throws
    /// Whether the guest's agent answers within some seconds.
    func pingGuestAgent(_ id: InstanceID) async throws -> Bool
    /// Reserves what one more NIC needs, and names it. The same MAC again for the same `key`.
    func plugInterface(
        _ guest: GuestSpecification, key: String, ipv4Address: String?, tag: String?
    ) async throws -> NetworkInterface
    /// Adds a plugged NIC to the definition, and to the guest when it is on.
    func attachInterface(_ interface: NetworkInterface, to guest: GuestSpecification) async throws
    /// Removes a NIC from the guest when it is on, which must let it go within a time, and then from the definition.
    /// Nothing has changed when it fails.
    func detachInterface(_ interface: NetworkInterface, from guest: GuestSpecification) async throws
    /// Gives back what one NIC of a guest reserved.
    func unplugInterface(_ interface: NetworkInterface, of id: InstanceID) async throws
    /// Sends the guest a non-maskable interrupt. `.conflict` when it is off.
    func injectNMI(_ id: InstanceID) async throws
    /// Counters of a running guest. `.conflict` when it is off.
    func diagnostics(_ id: InstanceID) async throws -> GuestDiagnostics
    /// The host's bridges that guests of ours are on, or may come to be.
    func guestBridges() async throws -> [String]
    /// Whose guest has a NIC of that MAC on that bridge; `nil` for none of ours.
    func guest(onBridge bridge: String, macAddress: String) async throws -> InstanceID?
    /// What the operator's configuration tells guests. Read each time.
    func metadataSettings() async throws -> MetadataSettings
    /// Puts the files of a guest that is off where nothing starts from them; they stay readable for the move. The domain's
    /// definition stays. `.conflict` when those of another migration are there.
    func setAside(_ id: InstanceID, for migration: MigrationID) async throws
    /// Puts them back; nothing when they are back. `.conflict` where the instance has other files here by now.
    func bringBack(_ id: InstanceID, of migration: MigrationID) async throws
    /// Removes them; nothing when there are none of this migration.
    func removeSetAside(_ id: InstanceID, of migration: MigrationID) async throws
    /// The instances of which files are set aside on this host, by any process that shares its folder.
    func setAside() async throws -> [InstanceID: MigrationID]
    /// What has been set aside; `.notFound` for none of this migration.
    func setAsideFiles(_ id: InstanceID, of migration: MigrationID) async throws -> [MovedFile]
    /// As `MovedFiles.extents`.
    func setAsideExtents(
        _ id: InstanceID, of migration: MigrationID, file: String, from offset: Int64
    ) async throws -> [DataExtent]
    /// As `MovedFiles.read`.
    func readSetAside(
        _ id: InstanceID, of migration: MigrationID, file: String, at offset: Int64, count: Int
    ) async throws -> [UInt8]
    /// Makes the guest's folder with the disks that `source` has, at the sizes that the guest's flavor wants now, and the
    /// disks that it did not have before; nothing of what is complete already. What the other host gives is inspected
    /// before anything reads it. Where this host sees the files itself, because the folder is shared or they are its
    /// own, they are copied without `source`. The image is in the cache. Goes on where an earlier call broke off.
    /// `progress` is told the bytes of data that are here, and those that there are in all.
    func takeOverDisks(
        _ guest: GuestSpecification, of migration: MigrationID, from source: any MovedFiles,
        progress: @escaping @Sendable (Int64, Int64) async -> Void
    ) async throws
    /// Removes what `takeOverDisks` has made for the migration; nothing where the instance's folder is of anything else.
    func removeTakenOver(_ id: InstanceID, of migration: MigrationID) async throws
    /// Reserves what NICs need that the instance has had on another host, and names them: with the same MACs, and the
    /// same addresses where they are free here.
    func adoptNetwork(_ id: InstanceID, _ interfaces: [NetworkInterface]) async throws -> [NetworkInterface]
    /// Gives back what NICs needed here that the instance has on another host now: their MACs are nobody's else.
    func leaveNetwork(_ id: InstanceID, _ interfaces: [NetworkInterface]) async throws
    /// Whether this host sees the instance's root disk, and the migration has not made it: the folder is shared with the
    /// host that has.
    func seesDisks(_ id: InstanceID, besides migration: MigrationID) async throws -> Bool
    /// Makes the instance's folder, for disks that the migration makes afresh; `removeTakenOver` removes them with it.
    /// `.conflict` where there is a folder by anything else.
    func beginTakingIn(_ id: InstanceID, by migration: MigrationID) async throws
    /// The last bytes of the console log, at most `limit`.
    func consoleLog(_ id: InstanceID, limit: Int) async throws -> [UInt8]
}

/// How a copy of a root disk is to be made.
public struct SnapshotRequest: Sendable, Hashable {
    public enum Quiesce: Sendable, Hashable {
        case no, ifPossible, required
    }
    public var format: DiskFormat
    public var quiesce: Quiesce

    public init(format: DiskFormat, quiesce: Quiesce) { (self.format, self.quiesce) = (format, quiesce) }
}
