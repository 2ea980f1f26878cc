internal import Crypto
internal import Model

/// Addresses of NICs: `fa:16:3e` is the prefix that OpenStack's tools use for virtual ones.
enum MACAddress {
    /// The address of an instance's NIC on a bridge. Derived from the uuid, so that asking twice gives the same one
    /// without a record; a higher `attempt` gives another, for when the first is taken.
    static func make(_ id: InstanceID, nic: String, attempt: Int) -> String {
        text(digest(.sha256, of: Array("\(id.rawValue)/\(nic)/\(attempt)".utf8)))
    }

    static func random() -> String { text(randomBytes(3)) }

    private static func text(_ bytes: [UInt8]) -> String {
        (["fa", "16", "3e"] + bytes.prefix(3).map { Hex.encode([$0]) }).joined(separator: ":")
    }
}
