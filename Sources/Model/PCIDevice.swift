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

    public init(
        vendorID: String, productID: String, kind: PCIDevice.Kind, numaNode: Int?, total: Int, free: Int,
        aliases: [String: String]? = nil
    ) {
        self.aliases = aliases
        (self.vendorID, self.productID, self.kind) = (vendorID, productID, kind)
        (self.numaNode, self.total, self.free) = (numaNode, total, free)
    }
}
