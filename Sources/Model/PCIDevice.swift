/// A PCI device of a host that guests may have for themselves.
public struct PCIDevice: Sendable, Hashable, Codable {
    /// Nova's names: a plain device, one with virtual functions, or such a function.
    public enum Kind: String, Sendable, Hashable, Codable, CaseIterable {
        case plain = "type-PCI"
        case physicalFunction = "type-PF"
        case virtualFunction = "type-VF"
    }

    /// `0000:81:00.1`
    public var address: String
    /// Four hexadecimal digits in lower case, as for the product.
    public var vendorID: String
    public var productID: String
    public var kind: Kind
    /// The physical function of a virtual one.
    public var parentAddress: String?
    /// The host's cell that it is near; `nil` when the host does not tell.
    public var numaNode: Int?

    public init(
        address: String, vendorID: String, productID: String, kind: Kind, parentAddress: String? = nil,
        numaNode: Int? = nil
    ) {
        (self.address, self.vendorID, self.productID) = (address, vendorID, productID)
        (self.kind, self.parentAddress, self.numaNode) = (kind, parentAddress, numaNode)
    }
}

/// How many devices of one sort a host has, and how many of them are free: for the scheduler, and for those who look.
public struct PCIPool: Sendable, Hashable, Codable {
    public var vendorID: String
    public var productID: String
    public var kind: PCIDevice.Kind
    public var numaNode: Int?
    public var total: Int
    public var free: Int
    /// The names by which flavors ask for these devices on their host, each with its `numa_policy`; `nil` from an agent
    /// that does not tell.
    public var aliases: [String: String]?
    /// The address of a physical function whose guest shuts out those of its virtual ones, and the reverse: of the one
    /// device of a pool of physical functions, of the parent of virtual ones. `nil` where there are not both for guests,
    /// and from an agent that does not tell.
    public var physicalFunction: String?

    public init(
        vendorID: String, productID: String, kind: PCIDevice.Kind, numaNode: Int?, total: Int, free: Int,
        aliases: [String: String]? = nil, physicalFunction: String? = nil
    ) {
        (self.aliases, self.physicalFunction) = (aliases, physicalFunction)
        (self.vendorID, self.productID, self.kind) = (vendorID, productID, kind)
        (self.numaNode, self.total, self.free) = (numaNode, total, free)
    }

    /// Whether every member is one that a host can have.
    var isPossible: Bool {
        let most = kind == .physicalFunction && physicalFunction != nil ? 1 : (1 << 20) - 1
        return (0...most).contains(total) && (0...total).contains(free) && vendorID.utf8.count <= 8
            && productID.utf8.count <= 8 && (0...65_535).contains(numaNode ?? 0)
            && (physicalFunction ?? "").utf8.count <= 32 && (aliases ?? [:]).count <= 1_024
            && (aliases ?? [:]).allSatisfy { $0.key.utf8.count <= 255 && $0.value.utf8.count <= 16 }
    }
}
