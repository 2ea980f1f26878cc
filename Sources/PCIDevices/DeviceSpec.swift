public import Model

/// Which of a host's devices guests may have: `[pci] device_spec`.
public struct DeviceSpec: Sendable, Hashable {
    private var vendorID: String?
    private var productID: String?
    /// For the domain, bus, slot and function, each a number in hexadecimal digits, or `nil` for any.
    private var address: [String?]?

    /// Reads one object, or a list of them: `{"vendor_id": "8086", "product_id": "10ed", "address": "0000:81:*.*"}`.
    /// An empty text is an empty list. Throws what is wrong, in a few words.
    public static func list(parsing text: String) throws(PCIError) -> [DeviceSpec] {
        try PCIError.objects(text).map { (fields) throws(PCIError) in
            var rest = fields
            let spec = DeviceSpec(
                vendorID: try PCIError.identifier(&rest, "vendor_id"),
                productID: try PCIError.identifier(&rest, "product_id"),
                address: try PCIError.text(&rest, "address").map { (text) throws(PCIError) in try parts(text) })
            try PCIError.finish(rest)
            guard spec != DeviceSpec() else { throw PCIError("vendor_id, product_id or address is wanted") }
            return spec
        }
    }

    private static func parts(_ text: String) throws(PCIError) -> [String?] {
        let words = text.lowercased().split(omittingEmptySubsequences: false) { $0 == ":" || $0 == "." }
        // Without a domain, as lspci writes it, any domain is meant.
        let four = words.count == 3 ? ["*"] + words : words
        guard four.count == 4 else {
            throw PCIError("\"\(text.prefix(40))\" is no address: 0000:81:00.1, with * for any")
        }
        var found: [String?] = []
        for word in four {
            if word == "*" {
                found.append(nil)
            } else if !word.isEmpty, word.utf8.count <= 8, let number = UInt32(word, radix: 16) {
                found.append(String(number, radix: 16))
            } else {
                throw PCIError("\"\(text.prefix(40))\" is no address: 0000:81:00.1, with * for any")
            }
        }
        return found
    }

    public func matches(_ device: PCIDevice) -> Bool {
        guard vendorID ?? device.vendorID == device.vendorID, productID ?? device.productID == device.productID else {
            return false
        }
        guard let address else { return true }
        let own = device.address.split { $0 == ":" || $0 == "." }.map {
            UInt32($0, radix: 16).map { String($0, radix: 16) }
        }
        return own.count == 4 && zip(address, own).allSatisfy { $0 == nil || $0 == $1 }
    }
}

/// What is wrong with a text of `[pci]`, in a few words.
public struct PCIError: Error, Sendable, Hashable, CustomStringConvertible {
    public let description: String

    init(_ description: String) { self.description = description }

    static func objects(_ text: String) throws(PCIError) -> [[String: JSON]] {
        guard text.contains(where: { !$0.isWhitespace }) else { return [] }
        let json: JSON
        do { json = try JSON(parsing: Array(text.utf8)) } catch { throw PCIError("it is no JSON") }
        let objects = json.list ?? [json]
        guard objects.count <= 1_024 else { throw PCIError("at most 1024 entries are read") }
        var found: [[String: JSON]] = []
        for object in objects {
            guard let members = object.members else { throw PCIError("a JSON object, or a list of them, is wanted") }
            found.append(members)
        }
        return found
    }

    static func text(_ fields: inout [String: JSON], _ name: String) throws(PCIError) -> String? {
        guard let value = fields.removeValue(forKey: name), !value.isNull else { return nil }
        guard let text = value.text, (1...255).contains(text.utf8.count) else {
            throw PCIError("\(name): a text is wanted")
        }
        return text
    }

    /// Four hexadecimal digits.
    static func identifier(_ fields: inout [String: JSON], _ name: String) throws(PCIError) -> String? {
        guard let text = try text(&fields, name), text != "*" else { return nil }
        guard text.utf8.count == 4, UInt16(text, radix: 16) != nil else {
            throw PCIError("\(name): four hexadecimal digits are wanted, not \"\(text.prefix(20))\"")
        }
        return text.lowercased()
    }

    static func finish(_ fields: [String: JSON]) throws(PCIError) {
        if let name = fields.keys.min() { throw PCIError("\"\(name.prefix(40))\" is not known here") }
    }
}
