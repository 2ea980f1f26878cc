/// Why a flavor and an image cannot steer a guest together: which property, its value, and the reason.
public struct HardwareError: Error, Sendable, Hashable, CustomStringConvertible {
    /// Who gave a property.
    public enum Origin: String, Sendable, Hashable {
        case flavor = "flavor extra spec"
        case image = "image property"
    }

    /// As the flavor or the image names it: `hw:cpu_max_sockets`.
    public let property: String
    public let origin: Origin
    public let value: String
    /// What would do, or what is in the way.
    public let reason: String

    init(_ setting: Setting, _ reason: String) {
        (property, origin, value) = (setting.name, setting.origin, setting.value)
        self.reason = reason
    }

    public var description: String { "\(property) (\(origin.rawValue)) = '\(value.prefix(64))': \(reason)" }
}

/// A property that a flavor or an image gave.
struct Setting: Sendable, Hashable {
    var name: String
    var origin: HardwareError.Origin
    var value: String

    var described: String { "\(name) (\(origin.rawValue)) = '\(value.prefix(64))'" }
}
