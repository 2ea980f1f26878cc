internal import GuestHardware
public import Model

extension PlacementRequest {
    /// Takes how many instances of each host have which `property=value`: forms of one value count together.
    public mutating func setImagePropertyCounts(_ given: [HostName: [String: Int]]) {
        imagePropertyCounts = given.mapValues { counts in
            var found: [String: Int] = [:]
            for (pair, count) in counts {
                let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
                let key = Self.countKey(String(parts[0]), parts.count > 1 ? String(parts[1]) : "")
                found[key] = (found[key] ?? 0) &+ count
            }
            return found
        }
    }

    /// By which the counts have a property's value.
    static func countKey(_ name: String, _ value: String) -> String {
        "\(CanonicalProperties.name(name))=\(CanonicalProperties.value(value, of: name))"
    }
}
