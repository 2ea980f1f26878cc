public import Model

/// All that a driver needs to make an instance's guest; kept in the agent's journal for as long as the instance is
/// here, so that a guest can be rebuilt without asking anybody.
public struct GuestSpecification: Sendable, Hashable, Codable {
    public var instance: Instance
    public var image: ImageReference
    /// The NICs in the order of their PCI slots; empty for an instance without network.
    public var interfaces: [NetworkInterface]

    public init(instance: Instance, image: ImageReference, interfaces: [NetworkInterface]) {
        (self.instance, self.image, self.interfaces) = (instance, image, interfaces)
    }
}

/// A guest as the hypervisor has it now.
public struct GuestObservation: Sendable, Hashable {
    public var id: InstanceID
    public var name: String
    public var powerState: PowerState
    /// Whether Apus made it: the domain's metadata says so. Guests of others are never touched.
    public var isOurs: Bool

    public init(id: InstanceID, name: String, powerState: PowerState, isOurs: Bool) {
        (self.id, self.name, self.powerState, self.isOurs) = (id, name, powerState, isOurs)
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

/// Where an image's bytes come from. Called at most once a fetch; each call of `write` returns when the bytes are taken.
public typealias ImageSource =
    @Sendable (
        _ write: @escaping @Sendable ([UInt8]) async throws -> Void
    ) async throws -> Void

/// A hypervisor as the agent drives it, in the steps of an instance's life.
///
/// Every method is idempotent: done twice it leaves what done once leaves, and the removing ones succeed when there is
/// nothing to remove. All throw `Failure`: `.hypervisor` for what libvirt refused, `.storage` for disks,
/// `.imageUnacceptable`, `.networkUnavailable`, `.notFound` for a guest that is not there, `.conflict` for a domain of
/// the same name or uuid that is not ours; `isRetriable` where another host, or the same one later, may succeed.
public protocol VirtDriver: Sendable {
    /// Connects and begins to deliver events. Fails when the hypervisor cannot be used at all.
    func start() async throws
    /// Ends events and connections; guests go on.
    func stop() async

    /// One consumer. Starts with `.resynchronise`; bounded, an overflow becomes `.resynchronise`.
    var events: AsyncStream<GuestEvent> { get }

    func capacity() async throws -> HostCapacity
    /// Every domain of the hypervisor, ours or not. One bulk call.
    func guests() async throws -> [GuestObservation]
    /// One guest, or `nil` when the hypervisor has none of that id.
    func observe(_ id: InstanceID) async throws -> GuestObservation?

    /// Has the image in the cache: fetched through `source` if it is not there, inspected, its digest verified, written
    /// afresh as the base. One download however many ask. Refuses an image larger than `flavor`'s root disk.
    func prepareImage(_ image: ImageReference, for flavor: Flavor, source: @escaping ImageSource) async throws
    /// Reserves what the NICs of an instance need, and names them.
    func plugNetwork(_ instance: Instance) async throws -> [NetworkInterface]
    func unplugNetwork(_ id: InstanceID, _ interfaces: [NetworkInterface]) async throws
    /// The root overlay (and the instance's folder) at the flavor's size.
    func createDisks(_ guest: GuestSpecification) async throws
    /// Every file of the instance, its folder included.
    func removeDisks(_ id: InstanceID) async throws
    func writeConfigDrive(_ guest: GuestSpecification, adminPassword: String?) async throws
    /// Defines the domain from the record; replaces a definition of ours.
    func define(_ guest: GuestSpecification) async throws
    /// Powers on a defined guest; nothing when it runs.
    func powerOn(_ id: InstanceID) async throws
    /// Asks the guest to shut down and waits; after `grace` (or at once when it is zero) pulls the plug.
    func powerOff(_ id: InstanceID, grace: Duration) async throws
    /// Asks the guest to reboot and waits until it has; `false` when it has not within `grace`.
    func softReboot(_ id: InstanceID, grace: Duration) async throws -> Bool
    /// Removes the domain's definition with its NVRAM, TPM state and managed save; the guest must be off.
    func undefine(_ id: InstanceID) async throws
    /// The last bytes of the console log, at most `limit`.
    func consoleLog(_ id: InstanceID, limit: Int) async throws -> [UInt8]
}
