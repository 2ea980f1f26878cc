public import Model

/// A name by which flavors ask for devices of a sort: `[pci] alias`. The same name again is an alternative.
public struct PCIAlias: Sendable, Hashable {
    public var name: String
    public var vendorID: String?
    public var productID: String?
    /// `nil` for a plain device or a virtual function; a physical one is given only where it is asked for.
    public var kind: PCIDevice.Kind?
    public var policy: PCIPolicy

    /// Reads one object, or a list of them: `{"name": "nic", "vendor_id": "8086", "product_id": "10ed"}`, with
    /// `device_type` and `numa_policy`. An empty text is an empty list. Throws what is wrong, in a few words.
    public static func list(parsing text: String) throws(PCIError) -> [PCIAlias] {
        var found: [PCIAlias] = []
        for fields in try PCIError.objects(text) {
            let alias = try PCIAlias(fields)
            if let known = found.first(where: { $0.name == alias.name }) {
                guard known.kind == alias.kind, known.policy == alias.policy else {
                    throw PCIError("alias \(alias.name): device_type and numa_policy must be the same each time")
                }
            }
            found.append(alias)
        }
        return found
    }

    private init(_ fields: [String: JSON]) throws(PCIError) {
        var rest = fields
        guard let name = try PCIError.text(&rest, "name"),
            name.utf8.allSatisfy({ byte in
                (48...57).contains(byte) || (97...122).contains(byte | 32) || [45, 46, 95].contains(byte)
            })
        else { throw PCIError("name: letters, digits, '.', '_' and '-' are wanted") }
        self.name = name
        vendorID = try PCIError.identifier(&rest, "vendor_id")
        productID = try PCIError.identifier(&rest, "product_id")
        kind = try PCIError.text(&rest, "device_type").map { (text) throws(PCIError) in
            guard let kind = PCIDevice.Kind(rawValue: text) else {
                throw PCIError("device_type: one of type-PCI, type-PF, type-VF is wanted")
            }
            return kind
        }
        policy =
            try PCIError.text(&rest, "numa_policy").map { (text) throws(PCIError) in
                guard let policy = PCIPolicy(rawValue: text) else {
                    throw PCIError("numa_policy: one of required, socket, preferred, legacy is wanted")
                }
                return policy
            } ?? .legacy
        try PCIError.finish(rest)
        guard vendorID != nil || productID != nil else {
            throw PCIError("alias \(name): vendor_id or product_id is wanted")
        }
    }

    func matches(_ device: PCIDevice) -> Bool {
        guard vendorID ?? device.vendorID == device.vendorID, productID ?? device.productID == device.productID else {
            return false
        }
        return kind.map { $0 == device.kind } ?? (device.kind != .physicalFunction)
    }
}

/// How near a device must be to the guest's memory.
public enum PCIPolicy: String, Sendable, Hashable, CaseIterable {
    /// On a cell that the guest is on.
    case required
    /// On a cell of a processor package that the guest is on.
    case socket
    /// Nearest first, but anywhere.
    case preferred
    /// On a cell that the guest is on, or where nobody knows.
    case legacy
}
