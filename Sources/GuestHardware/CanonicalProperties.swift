/// An image's properties as rules compare them: one name and one form of each value, as Nova has them once it has read
/// an image.
public struct CanonicalProperties: Sendable, Hashable {
    private let values: [String: String]

    /// What cannot be read as its property's type stays as it is.
    public init(_ given: [String: String]) {
        var values: [String: String] = [:]
        for (name, value) in given where Self.formerNames[name] != nil {
            values[Self.name(name)] = Self.value(value, of: name)
        }
        // What today's name says goes before what the former one does.
        for (name, value) in given where Self.formerNames[name] == nil { values[name] = Self.value(value, of: name) }
        self.values = values
    }

    /// The value of a property, by today's name of it or by its former one.
    public subscript(name: String) -> String? { values[Self.name(name)] }

    private static let formerNames = [
        "architecture": "hw_architecture", "hypervisor_type": "img_hv_type", "vm_mode": "hw_vm_mode",
        "hypervisor_version_requires": "img_hv_requested_version",
    ]

    /// Today's name of a property.
    public static func name(_ name: String) -> String { formerNames[name] ?? name }

    /// The one form of a property's value: `True` and `False`, numbers without zeros before them, an architecture, a
    /// hypervisor or a mode by its usual name.
    public static func value(_ value: String, of name: String) -> String {
        switch Self.name(name) {
        case "hw_architecture": return Architecture.canonical(value)
        case "img_hv_type":
            let type = value.lowercased()
            return type == "xapi" ? "xen" : type
        case "hw_vm_mode":
            let mode = value.lowercased()
            return ["pv": "xen", "hv": "hvm", "baremetal": "hvm"][mode] ?? mode
        default: break
        }
        let setting = Setting(name: name, origin: .image, value: value)
        switch PropertyTable.rule(setting) {
        case .flag: return (try? setting.flag()).map { $0 ? "True" : "False" } ?? value
        case .whole, .limit: return Int(value).map(String.init) ?? value
        default: return value
        }
    }
}
