internal import CSystem
internal import Glibc
internal import Model

/// The metadata service's address on a bridge, under a label of ours: what another's hand has added is never touched.
struct BridgeAddress: Sendable {
    let bridge: String
    private var label: String { bridge + ":apus" }

    init(_ bridge: String) { self.bridge = bridge }

    /// Whether the bridge has the address by us.
    var isThere: Bool { apus_has_address(label) != 0 }

    /// Adds the address. The kernel's labels have 15 characters, of which a bridge's name may take ten. Throws when it is on this machine by another's hand, the bridge is not there, or root is needed.
    func add() throws(Failure) {
        if let known = try current() {
            guard known.hasSuffix(":apus") else {
                throw Failure(
                    .conflict, "\(MetadataService.address) is on \(known) already, by another's hand")
            }
            if isThere { return }
        }
        guard apus_add_address(label, MetadataService.address) == 0 else {
            throw Failure(
                .networkUnavailable,
                "\(MetadataService.address) cannot be added to \(bridge): \(String(cString: strerror(errno)))")
        }
    }

    /// Takes our address away again; nothing when it is gone.
    func remove() throws(Failure) {
        guard apus_remove_address(label) == 0 || errno == ENODEV || errno == EADDRNOTAVAIL else {
            throw Failure(.networkUnavailable, String(cString: strerror(errno)))
        }
    }

    /// The label under which the address is on this machine.
    private func current() throws(Failure) -> String? {
        var text = [CChar](repeating: 0, count: 64)
        switch apus_find_address(MetadataService.address, &text, text.count) {
        case 0: return nil
        case 1: return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        default:
            throw Failure(.networkUnavailable, "the addresses of this machine are not known: errno \(errno)")
        }
    }
}
