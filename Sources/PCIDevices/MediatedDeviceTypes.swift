public import Model

/// Which types of mediated devices guests may have: `[devices] enabled_mdev_types` and `mdev_type_addresses`.
public struct MediatedDeviceTypes: Sendable, Hashable {
    /// The first that a physical device knows is the one that it gives.
    public let enabled: [String]
    /// The type of each physical device that gives a certain one, by its address.
    public let assigned: [String: String]

    /// - Parameters:
    ///   - addresses: `nvidia-36=0000:84:00.0,0000:85:00.0;nvidia-35=0000:86:00.0`.
    /// - Throws: what is wrong or contradicts itself, in a few words.
    public init(enabled: [String], addresses: String = "") throws(PCIError) {
        try Self.check(enabled)
        self.enabled = enabled
        assigned = try Self.assignments(parsing: addresses)
        if let type = Set(assigned.values).subtracting(enabled).min() {
            throw PCIError("mdev_type_addresses: \(type) is not one of enabled_mdev_types")
        }
    }

    /// Refuses texts that are no types, and one that is there twice.
    public static func check(_ types: [String]) throws(PCIError) {
        guard types.count <= 64 else { throw PCIError("at most 64 types may be enabled") }
        for (index, type) in types.enumerated() {
            guard isType(type) else {
                throw PCIError(
                    "\"\(type.prefix(40))\" is no type: up to 64 letters, digits, '.', '_' and '-' are wanted")
            }
            guard !types[..<index].contains(type) else { throw PCIError("\(type) is there twice") }
        }
    }

    /// Reads `mdev_type_addresses`: the type of each address.
    public static func assignments(parsing text: String) throws(PCIError) -> [String: String] {
        var (found, seen): ([String: String], Set<String>) = ([:], [])
        guard text.contains(where: { $0 != " " }) else { return [:] }
        for part in text.split(separator: ";", omittingEmptySubsequences: false) {
            let sides = part.split(separator: "=", omittingEmptySubsequences: false).map { trimmed($0) }
            guard sides.count == 2, isType(sides[0]) else {
                throw PCIError("\"\(part.prefix(40))\" is no assignment: nvidia-36=0000:84:00.0,0000:85:00.0")
            }
            guard seen.insert(sides[0]).inserted else { throw PCIError("\(sides[0]) is there twice") }
            for word in sides[1].split(separator: ",", omittingEmptySubsequences: false) {
                let address = trimmed(word).lowercased()
                guard isAddress(address) else {
                    throw PCIError("\"\(address.prefix(40))\" is no address of a device: 0000:84:00.0")
                }
                guard found.updateValue(sides[0], forKey: address) == nil else {
                    throw PCIError("\(address) is there twice; a device gives one type")
                }
            }
        }
        return found
    }

    /// What guests may have of a physical device; `nil` when it gives none of the enabled types.
    public func supply(of parent: MediatedDeviceParent) -> MediatedDeviceSupply? {
        // Guests have PCI devices; shares of other kinds are for other architectures.
        let offers = parent.types.filter { $0.deviceAPI == "vfio-pci" }
        let wanted = assigned[parent.address].map { [$0] } ?? enabled
        guard let offer = wanted.lazy.compactMap({ type in offers.first { $0.id == type } }).first else { return nil }
        let existing = parent.devices.filter { $0.type == offer.id }.map(\.uuid)
        return MediatedDeviceSupply(
            parentAddress: parent.address, type: offer.id, numaNode: parent.numaNode,
            total: max(0, offer.availableInstances) + existing.count, existing: existing.sorted())
    }

    private static func isType(_ text: String) -> Bool {
        (1...64).contains(text.utf8.count)
            && text.utf8.allSatisfy { byte in
                (48...57).contains(byte) || (97...122).contains(byte | 32) || [45, 46, 95].contains(byte)
            }
    }

    private static func isAddress(_ text: String) -> Bool {
        let words = text.split(omittingEmptySubsequences: false) { $0 == ":" || $0 == "." }
        guard words.count == 4, text.utf8.count <= 16, text.firstIndex(of: ".") == text.lastIndex(of: "."),
            text.dropLast().last == ".", (4...8).contains(words[0].utf8.count)
        else { return false }
        return words[1].utf8.count == 2 && words[2].utf8.count == 2
            && words.allSatisfy { $0.utf8.allSatisfy { (48...57).contains($0) || (97...102).contains($0) } }
            && words[3] < "8"
    }

    private static func trimmed(_ text: Substring) -> String {
        String(text.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
    }
}
