public import Model
internal import Synchronization

/// A hypervisor in memory: what stays when an agent's `FakeDriver` goes away. Several drivers may share one, as
/// libvirtd outlives its clients.
public final class FakeHost: Sendable {
    /// A domain as the fake hypervisor has it.
    public struct Domain: Sendable, Hashable {
        public var name: String
        public var powerState: PowerState
        public var isOurs: Bool
        /// As its definition says; `nil` for one that does not.
        public var size: Resources?
        /// How often it was powered on.
        public var starts = 0
        /// Set while the memory of a suspended guest is on disk.
        public var hasSavedMemory = false
        /// What its definition boots from when it is being rescued.
        public var rescueImage: ImageID?
        /// The image that its root disk was made from when it was defined.
        public var image: ImageID?
        /// The MACs of its definition, and those that the guest has while it is on.
        public var interfaces: Set<String> = []
        public var plugged: Set<String> = []
        /// Whether its guest agent answers; and what was set by it, by user.
        public var hasAgent = true
        public var passwords: [String: String] = [:]
        public var interrupts = 0
        /// The processors of its own in its definition.
        public var cpus: CPUSet?
        /// The addresses of the host's devices in its definition.
        public var devices: [String] = []
        /// The uuids of the mediated devices in its definition.
        public var mediatedDevices: [String] = []

        public init(name: String, powerState: PowerState, isOurs: Bool, size: Resources? = nil) {
            self.size = size
            (self.name, self.powerState, self.isOurs) = (name, powerState, isOurs)
        }
    }

    /// Everything that an instance can leave on a host.
    public struct State: Sendable, Hashable {
        public var domains: [InstanceID: Domain] = [:]
        public var disks: Set<InstanceID> = []
        /// The disks that are set aside, and for which migration.
        public var setAside: [InstanceID: MigrationID] = [:]
        /// For which migration disks were taken over.
        public var takenOver: [InstanceID: MigrationID] = [:]
        /// The password that stands in each config drive.
        public var configDrives: [InstanceID: String?] = [:]
        /// The paths of the files that were injected through it.
        public var injectedFiles: [InstanceID: [String]] = [:]
        /// Those of the rescue, likewise; `nil` stands for a disk without one.
        public var rescueDisks: [InstanceID: String?] = [:]
        public var networks: [InstanceID: [NetworkInterface]] = [:]
        /// The MACs of NICs that were added, by the key under which each was asked for.
        var keys: [String: String] = [:]
        /// Digests of the cached images.
        public var images: Set<String> = []
        public var consoles: [InstanceID: [UInt8]] = [:]
        /// The copies of root disks, with their bytes.
        public var snapshots: [SnapshotName: [UInt8]] = [:]
        var lastAddress = 0
        /// The host's bridges with guests.
        public var bridges: [String] = []
        public var devices: [PCIDevice] = []
        public var mediatedParents: [MediatedDeviceParent] = []

        public init() {}

        /// The uuids of the mediated devices that exist.
        public var mediatedDevices: Set<String> { Set(mediatedParents.flatMap(\.devices).map(\.uuid)) }

        /// Takes all mediated devices away, as a boot of the host does.
        public mutating func loseMediatedDevices() {
            for device in mediatedParents.flatMap(\.devices) { removeMediatedDevice(device.uuid) }
        }

        mutating func createMediatedDevice(_ device: MediatedDevice) throws(Failure) {
            guard !mediatedDevices.contains(device.uuid) else { return }
            guard let place = mediatedParents.firstIndex(where: { $0.address == device.parentAddress }),
                let type = mediatedParents[place].types.firstIndex(where: { $0.id == device.type }),
                mediatedParents[place].types[type].availableInstances > 0
            else { throw Failure(.hypervisor, "\(device.parentAddress) gives no \(device.type)", isRetriable: true) }
            mediatedParents[place].types[type].availableInstances -= 1
            mediatedParents[place].devices.append(device)
        }

        mutating func removeMediatedDevice(_ uuid: String) {
            for place in mediatedParents.indices {
                let index = mediatedParents[place].devices.firstIndex { $0.uuid == uuid }
                guard let index else { continue }
                let device = mediatedParents[place].devices.remove(at: index)
                let type = mediatedParents[place].types.firstIndex { $0.id == device.type }
                if let type { mediatedParents[place].types[type].availableInstances += 1 }
            }
        }

        /// The instances that hold anything here, each with what it holds.
        public var holdings: [InstanceID: [String]] {
            var found: [InstanceID: [String]] = [:]
            for id in domains.keys { found[id, default: []].append("domain") }
            for id in disks { found[id, default: []].append("disks") }
            for id in setAside.keys { found[id, default: []].append("disks set aside") }
            for id in configDrives.keys { found[id, default: []].append("config drive") }
            for id in rescueDisks.keys { found[id, default: []].append("rescue disks") }
            for id in networks.keys { found[id, default: []].append("network") }
            for name in snapshots.keys { found[name.instance, default: []].append("snapshot") }
            return found
        }
    }

    private let content: Mutex<State>

    public init(_ state: State = State()) { content = Mutex(state) }

    public var state: State { content.withLock { $0 } }

    /// Changes what the hypervisor holds, as somebody at the host could.
    public func change<T: Sendable>(_ body: (inout sending State) -> sending T) -> T { content.withLock(body) }
}

extension HostCapacity {
    /// A host of 8 processors, 16 GiB memory and 100 GiB disk.
    public static let fake = HostCapacity(
        hypervisorHostname: "fake-host", hypervisorType: "FAKE", hypervisorVersion: 1_002_003,
        total: Resources(vcpus: 8, memoryMiB: 16_384, diskGiB: 100), diskAvailableLeastGiB: 90, cpuModel: "fake",
        cpuVendor: "none", architecture: "x86_64", cpuTopology: CPUTopology(cores: 8), cpuFeatures: ["sse2"],
        uptimeSeconds: 1_000)
}
