internal import Libvirt
public import Model
internal import XML

extension LibvirtDriver {
    public func hostDevices() async throws -> [PCIDevice] {
        let connection = try await connection(.work)
        let texts = try await translated("looking at the host's devices") { try await connection.nodeDevices(.pci) }
        return readable(texts).compactMap { PCIDevice($0) }
    }
}

extension PCIDevice {
    /// A node device as libvirt describes it; `nil` when it is no PCI device with all that is wanted.
    init?(_ document: XMLNode) {
        let capability = document.all("capability").first { $0["type"] == "pci" }
        guard let capability, let address = Self.address(elements: capability),
            let vendor = Self.identifier(capability.first("vendor")?["id"]),
            let product = Self.identifier(capability.first("product")?["id"])
        else { return nil }
        let functions = capability.all("capability")
        let parent = functions.first { $0["type"] == "phys_function" }?.first("address")
        let node = capability.first("numa")?["node"].flatMap { Int($0) }
        self.init(
            address: address, vendorID: vendor, productID: product,
            kind: parent != nil
                ? .virtualFunction
                : functions.contains { $0["type"] == "virt_functions" } ? .physicalFunction : .plain,
            parentAddress: parent.flatMap { Self.address(attributes: $0) }, numaNode: node.flatMap { $0 < 0 ? nil : $0 }
        )
    }

    static func address(elements capability: XMLNode) -> String? {
        let parts = ["domain", "bus", "slot", "function"].map { capability.first($0).flatMap { UInt32($0.text) } }
        return text(parts)
    }

    private static func address(attributes node: XMLNode) -> String? {
        text(
            ["domain", "bus", "slot", "function"].map { name in
                node[name].flatMap { UInt32($0.dropFirst(2), radix: 16) }
            })
    }

    private static func text(_ parts: [UInt32?]) -> String? {
        let numbers = parts.compactMap(\.self)
        guard numbers.count == 4 else { return nil }
        func hex(_ number: UInt32, _ width: Int) -> String {
            let digits = String(number, radix: 16)
            return String(repeating: "0", count: max(0, width - digits.count)) + digits
        }
        return "\(hex(numbers[0], 4)):\(hex(numbers[1], 2)):\(hex(numbers[2], 2)).\(numbers[3])"
    }

    /// `0x8086` becomes `8086`.
    private static func identifier(_ text: String?) -> String? {
        guard let text, text.hasPrefix("0x"), let number = UInt16(text.dropFirst(2), radix: 16) else { return nil }
        let digits = String(number, radix: 16)
        return String(repeating: "0", count: 4 - digits.count) + digits
    }
}
