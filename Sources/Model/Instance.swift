/// Orders who may win on an instance: `generation` rises with each accepted user action, `epoch` with each take-over
/// of that action's task by another conductor.
public struct Fence: Hashable, Comparable, Sendable, Codable {
    public var generation: Int64
    public var epoch: Int64

    public init(generation: Int64, epoch: Int64) { (self.generation, self.epoch) = (generation, epoch) }

    public static func < (left: Fence, right: Fence) -> Bool {
        (left.generation, left.epoch) < (right.generation, right.epoch)
    }
}

/// A virtual server as the control plane's database knows it.
public struct Instance: Sendable, Hashable, Codable {
    public var id: InstanceID
    /// A small number, unique in the database; names the domain (`instance-%08x`).
    public var number: Int64
    public var projectID: ProjectID
    public var userID: UserID
    public var name: String
    public var hostname: String
    public var flavor: Flavor
    public var imageID: ImageID
    public var keyName: String?
    public var publicKey: String?
    public var metadata: [String: String]
    /// The labels that clients filter lists by (from 2.26); at most 50.
    public var tags: Set<String>
    public var userData: String?
    public var isConfigDriveRequested: Bool
    public var availabilityZone: String?
    /// The host that was asked for; `nil`: any.
    public var destination: RequestedDestination?
    public var networks: NetworkRequest
    /// `nil`: what the flavor has.
    public var localDisks: LocalDisks?
    public var schedulerHints: [String: [String]]
    public var reservationID: String
    public var launchIndex: Int
    public var vmState: VMState
    public var taskState: TaskState?
    public var powerState: PowerState
    public var fence: Fence
    /// The host that has, or is about to have, the guest; `nil` before scheduling.
    public var host: HostName?
    /// The host's `hypervisor_hostname`; `nil` while there is no host, or where the host has not said it. Since release 2.
    public var node: String?
    public var interfaces: [NetworkInterface]
    public var fault: InstanceFault?
    public var accessIPv4: String?
    public var accessIPv6: String?
    public var description: String?
    public var progress: Int
    public var createdAt: Timestamp
    public var updatedAt: Timestamp
    public var launchedAt: Timestamp?
    public var terminatedAt: Timestamp?
    public var deletedAt: Timestamp?
    /// Who locked it; `nil` for an instance that is not locked.
    public var lock: InstanceLock?
    /// What to go back to from SUSPENDED, RESCUE, SHELVED and SOFT_DELETED.
    public var previousVMState: VMState?
    /// When it was deleted softly; `nil` outside `soft-delete`.
    public var softDeletedAt: Timestamp?
    /// When its rescue began; `nil` outside `rescued`.
    public var rescuedAt: Timestamp?
    /// Where its disk is while it is shelved; `nil` otherwise.
    public var shelved: ShelvedRecord?
    /// The properties of the image that the disk was made from, as they were then.
    public var imageProperties: [String: String]?
    /// That of the last command whose end the host has reported; older reports than that come too late.
    public var hostFence: Fence?
    /// What the host has said while something was under way; counts when that ends.
    public var postponedReport: InstanceReport?
    /// The move that is under way, or that waits to be confirmed; `nil` for an instance that stays. Since release 3.
    public var move: PendingMove?

    public init(
        id: InstanceID, number: Int64 = 0, projectID: ProjectID, userID: UserID, name: String, hostname: String,
        flavor: Flavor, imageID: ImageID, keyName: String? = nil, publicKey: String? = nil,
        metadata: [String: String] = [:], tags: Set<String> = [], userData: String? = nil,
        isConfigDriveRequested: Bool = false,
        availabilityZone: String? = nil, networks: NetworkRequest = .auto, schedulerHints: [String: [String]] = [:],
        reservationID: String, launchIndex: Int = 0, createdAt: Timestamp
    ) {
        self.id = id
        self.number = number
        self.projectID = projectID
        self.userID = userID
        self.name = name
        self.hostname = hostname
        self.flavor = flavor
        self.imageID = imageID
        self.keyName = keyName
        self.publicKey = publicKey
        self.metadata = metadata
        self.tags = tags
        self.userData = userData
        self.isConfigDriveRequested = isConfigDriveRequested
        self.availabilityZone = availabilityZone
        self.networks = networks
        self.schedulerHints = schedulerHints
        self.reservationID = reservationID
        self.launchIndex = launchIndex
        self.createdAt = createdAt
        updatedAt = createdAt
        vmState = .building
        taskState = .scheduling
        powerState = .noState
        fence = Fence(generation: 1, epoch: 0)
        interfaces = []
        progress = 0
    }

    public var status: ServerStatus { ServerStatus(vmState, taskState) }

    /// The libvirt domain's name.
    public var domainName: String {
        let digits = String(number, radix: 16)
        return "instance-" + String(repeating: "0", count: max(0, 8 - digits.count)) + digits
    }

    /// What the instance takes from a host.
    /// Processors that it gets for itself are not among the vCPUs, which stand for a share of the others.
    public var resources: Resources {
        var resources = Resources(flavor)
        resources.vcpus -= dedicatedVCPUs
        return resources
    }

    /// How many of its vCPUs get a processor of the host each, for themselves (`hw:cpu_policy`).
    public var dedicatedVCPUs: Int {
        switch flavor.extraSpecs["hw:cpu_policy"] ?? imageProperties?["hw_cpu_policy"] {
        case "dedicated": return flavor.vcpus
        case "mixed":
            let mask = flavor.extraSpecs["hw:cpu_dedicated_mask"] ?? ""
            let text = mask.hasPrefix("^") ? "0-\(max(0, flavor.vcpus - 1)),\(mask)" : mask
            return min(flavor.vcpus, CPUSet(parsing: text)?.count ?? 0)
        default: return 0
        }
    }

    /// As release 1 knows it: without what came later.
    public var inFirstForm: Instance {
        var older = self
        (older.node, older.move) = (nil, nil)
        return older
    }

    /// How many shares of physical devices it gets (`resources:VGPU`).
    public var vgpus: Int {
        guard let count = flavor.extraSpecs["resources:VGPU"].flatMap({ Int($0) }) else { return 0 }
        return min(max(0, count), 1_024)
    }
}

/// Which host an instance is to be on.
public struct RequestedDestination: Sendable, Hashable, Codable {
    public var host: HostName?
    /// `hypervisor_hostname`
    public var node: String?
    /// Whether no filter is asked, as an administrator may want it (`zone:host:node`).
    public var isForced: Bool

    public init(host: HostName?, node: String?, isForced: Bool) {
        (self.host, self.node, self.isForced) = (host, node, isForced)
    }
}

/// Keeps those who are not administrators from changing an instance.
public struct InstanceLock: Sendable, Hashable, Codable {
    public enum Holder: String, Sendable, Hashable, Codable {
        case owner, admin
    }
    public var holder: Holder
    /// At most 255 characters.
    public var reason: String?

    public init(holder: Holder, reason: String? = nil) { (self.holder, self.reason) = (holder, reason) }
}

/// What a shelved instance comes back from.
public struct ShelvedRecord: Sendable, Hashable, Codable {
    public var imageID: ImageID
    public var host: HostName?
    public var at: Timestamp

    public init(imageID: ImageID, host: HostName?, at: Timestamp) {
        (self.imageID, self.host, self.at) = (imageID, host, at)
    }
}

/// Disks on the host that the user asked for (`block_device_mapping_v2`) within what the flavor has.
public struct LocalDisks: Sendable, Hashable, Codable {
    public struct Ephemeral: Sendable, Hashable, Codable {
        public var sizeGiB: Int
        /// What it is formatted with; `nil` is the host's choice.
        public var fileSystem: String?

        public init(sizeGiB: Int, fileSystem: String? = nil) {
            (self.sizeGiB, self.fileSystem) = (sizeGiB, fileSystem)
        }
    }

    /// In place of the one that the flavor has; empty for that one.
    public var ephemerals: [Ephemeral]
    /// In place of the flavor's; `nil` for that.
    public var swapMiB: Int?

    public init(ephemerals: [Ephemeral] = [], swapMiB: Int? = nil) {
        (self.ephemerals, self.swapMiB) = (ephemerals, swapMiB)
    }
}

/// A file that the user has put into the server (`personality`): reaches the guest by its config drive.
public struct InjectedFile: Sendable, Hashable, Codable {
    /// Absolute, at most 1,024 characters, of which a quota commonly leaves 255 bytes.
    public var path: String
    /// Base64, at most 65,535 characters, of which a quota commonly leaves 10,240 bytes decoded.
    public var contents: String

    public init(path: String, contents: String) { (self.path, self.contents) = (path, contents) }
}

/// Why an instance is in ERROR, as a person reads it.
public struct InstanceFault: Sendable, Hashable, Codable {
    /// An HTTP status code, as Nova's faults carry.
    public var code: Int
    public var message: String
    /// More, for administrators only.
    public var details: String?
    public var createdAt: Timestamp

    public init(code: Int = 500, message: String, details: String? = nil, createdAt: Timestamp) {
        (self.code, self.message, self.details, self.createdAt) = (code, message, details, createdAt)
    }
}

/// What the user asked for under `networks`.
public enum NetworkRequest: String, Sendable, Hashable, Codable {
    /// One NIC on the configured default network.
    case auto
    case none
}

/// One NIC of an instance.
public struct NetworkInterface: Sendable, Hashable, Codable {
    /// The label under `addresses`: the configured network's name.
    public var network: String
    /// Six lower-case hex pairs with colons.
    public var macAddress: String
    /// The address reserved for the MAC on a libvirt network; `nil` on a bridge.
    public var ipv4Address: String?
    /// The role that the user gave the device (from 2.32).
    public var tag: String?

    public init(network: String, macAddress: String, ipv4Address: String? = nil, tag: String? = nil) {
        (self.network, self.macAddress, self.ipv4Address) = (network, macAddress, ipv4Address)
        self.tag = tag
    }

    /// The id under which clients name the NIC: a uuid that is the same for the same MAC of the same instance.
    public func portID(in instance: InstanceID) -> String {
        String(instance.rawValue.prefix(24)) + macAddress.lowercased().filter { $0 != ":" }
    }
}

/// A kind of server that can be asked for.
public struct Flavor: Sendable, Hashable, Codable {
    public var id: FlavorID
    public var name: String
    public var vcpus: Int
    public var memoryMiB: Int
    /// Root disk; 0 means the size of the image.
    public var rootGiB: Int
    public var ephemeralGiB: Int
    public var swapMiB: Int
    public var rxtxFactor: Double
    public var isPublic: Bool
    public var isDisabled: Bool
    public var description: String?
    public var extraSpecs: [String: String]

    public init(
        id: FlavorID, name: String, vcpus: Int, memoryMiB: Int, rootGiB: Int, ephemeralGiB: Int = 0, swapMiB: Int = 0,
        rxtxFactor: Double = 1, isPublic: Bool = true, isDisabled: Bool = false, description: String? = nil,
        extraSpecs: [String: String] = [:]
    ) {
        (self.id, self.name, self.vcpus, self.memoryMiB, self.rootGiB) = (id, name, vcpus, memoryMiB, rootGiB)
        (self.ephemeralGiB, self.swapMiB, self.rxtxFactor) = (ephemeralGiB, swapMiB, rxtxFactor)
        (self.isPublic, self.isDisabled, self.description, self.extraSpecs) =
            (isPublic, isDisabled, description, extraSpecs)
    }
}

/// A public key that a user may have written into servers.
public struct KeyPair: Sendable, Hashable, Codable {
    public var name: String
    public var userID: UserID
    /// `ssh`; `x509` is refused until certificates are served.
    public var type: String
    public var publicKey: String
    /// MD5 of the key's blob, as sixteen hex pairs with colons.
    public var fingerprint: String
    public var createdAt: Timestamp

    public init(
        name: String, userID: UserID, type: String = "ssh", publicKey: String, fingerprint: String,
        createdAt: Timestamp
    ) {
        (self.name, self.userID, self.type) = (name, userID, type)
        (self.publicKey, self.fingerprint, self.createdAt) = (publicKey, fingerprint, createdAt)
    }
}

/// The formats that Apus accepts for images.
public enum DiskFormat: String, Sendable, Hashable, Codable, CaseIterable {
    case raw, qcow2
}

/// What a host must know of an image to boot from it.
public struct ImageReference: Sendable, Hashable, Codable {
    public var id: ImageID
    public var format: DiskFormat
    /// Bytes of the file as it was uploaded.
    public var sizeBytes: Int64
    /// Bytes of the disk inside.
    public var virtualSizeBytes: Int64
    /// Lower-case hex digest of the uploaded bytes; the cache's key.
    public var sha512: String
    public var minDiskGiB: Int
    public var minMemoryMiB: Int
    /// `hw_*`, `os_*` and other properties.
    public var properties: [String: String]

    public init(
        id: ImageID, format: DiskFormat, sizeBytes: Int64, virtualSizeBytes: Int64, sha512: String,
        minDiskGiB: Int = 0, minMemoryMiB: Int = 0, properties: [String: String] = [:]
    ) {
        (self.id, self.format, self.sizeBytes) = (id, format, sizeBytes)
        (self.virtualSizeBytes, self.sha512) = (virtualSizeBytes, sha512)
        (self.minDiskGiB, self.minMemoryMiB, self.properties) = (minDiskGiB, minMemoryMiB, properties)
    }
}
