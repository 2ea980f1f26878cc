/// A share of a physical device that a guest has for itself: an mdev of the kernel.
public struct MediatedDevice: Sendable, Hashable, Codable {
    /// The PCI address of the physical device: `0000:84:00.0`.
    public var parentAddress: String
    /// The type as its driver names it: `nvidia-35`.
    public var type: String
    public var uuid: String

    public init(parentAddress: String, type: String, uuid: String) {
        (self.parentAddress, self.type, self.uuid) = (parentAddress, type, uuid)
    }
}

/// A physical device of a host that shares can be made of, and those that are there.
public struct MediatedDeviceParent: Sendable, Hashable {
    /// A type of shares that the device knows.
    public struct TypeOffer: Sendable, Hashable {
        public var id: String
        /// How guests see a share: `vfio-pci`.
        public var deviceAPI: String
        /// How many more can be made now.
        public var availableInstances: Int

        public init(id: String, deviceAPI: String, availableInstances: Int) {
            (self.id, self.deviceAPI, self.availableInstances) = (id, deviceAPI, availableInstances)
        }
    }

    /// Its PCI address.
    public var address: String
    /// The host's cell that it is near; `nil` when the host does not tell.
    public var numaNode: Int?
    public var types: [TypeOffer]
    /// The shares that exist, whoever made them.
    public var devices: [MediatedDevice]

    public init(address: String, numaNode: Int? = nil, types: [TypeOffer], devices: [MediatedDevice] = []) {
        (self.address, self.numaNode, self.types, self.devices) = (address, numaNode, types, devices)
    }
}

/// How many shares a physical device gives, and how many are somebody's: for those who look at a host.
public struct MediatedDevicePool: Sendable, Hashable, Codable {
    public var parentAddress: String
    public var type: String
    public var numaNode: Int?
    public var total: Int
    /// More than `total` where the device, or what it gives, has become less.
    public var used: Int

    public init(parentAddress: String, type: String, numaNode: Int?, total: Int, used: Int) {
        (self.parentAddress, self.type, self.numaNode) = (parentAddress, type, numaNode)
        (self.total, self.used) = (total, used)
    }

    /// Whether a host can have such a pool.
    var isPossible: Bool {
        (0..<1 << 20).contains(total) && (0..<1 << 20).contains(used) && (numaNode ?? 0) >= 0
            && parentAddress.utf8.count <= 32 && type.utf8.count <= 64
    }
}
