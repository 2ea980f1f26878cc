import GuestHardware
import Model

func hardware(
    _ specs: [String: String] = [:], _ properties: [String: String] = [:], vcpus: Int = 4
) throws(HardwareError) -> GuestHardware {
    let flavor = Flavor(
        id: FlavorID("1"), name: "m", vcpus: vcpus, memoryMiB: 128, rootGiB: 1, extraSpecs: specs)
    return try GuestHardware(flavor: flavor, imageProperties: properties)
}

/// What the combination is refused with; empty when it is not.
func refusal(_ specs: [String: String] = [:], _ properties: [String: String] = [:], vcpus: Int = 4) -> String {
    do throws(HardwareError) {
        _ = try hardware(specs, properties, vcpus: vcpus)
        return ""
    } catch {
        return error.description
    }
}

/// A flavor's specs and an image's properties, and what a test expects of them.
struct Row<Expected: Sendable>: Sendable, CustomStringConvertible {
    var specs: [String: String]
    var properties: [String: String]
    var expected: Expected

    init(_ specs: [String: String], _ properties: [String: String], _ expected: Expected) {
        (self.specs, self.properties, self.expected) = (specs, properties, expected)
    }

    var description: String { "\(specs) \(properties)" }
}
