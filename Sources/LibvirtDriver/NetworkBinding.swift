internal import Model

/// Where NICs are plugged: `[compute] network`.
enum NetworkBinding: Sendable, Hashable {
    /// A network of libvirt; addresses are reserved there.
    case libvirt(String)
    /// A bridge of the host; addresses are nobody's business here.
    case bridge(String)

    static let allowed = "libvirt:NAME or bridge:NAME"

    init?(_ text: String) {
        guard let colon = text.firstIndex(of: ":") else { return nil }
        let name = String(text[text.index(after: colon)...])
        guard !name.isEmpty, name.utf8.count <= 255, !name.contains("/") else { return nil }
        switch text[..<colon] {
        case "libvirt": self = .libvirt(name)
        // The kernel's limit of an interface's name.
        case "bridge" where name.utf8.count <= 15: self = .bridge(name)
        default: return nil
        }
    }

    /// The label under `addresses`.
    var name: String {
        switch self {
        case .libvirt(let name), .bridge(let name): name
        }
    }

    /// What an existing NIC is plugged into. The configured network may be another one by now: an address then tells
    /// that libvirt reserved it.
    func binding(of interface: NetworkInterface) -> NetworkBinding {
        if interface.network == name { return self }
        return interface.ipv4Address == nil ? .bridge(interface.network) : .libvirt(interface.network)
    }
}
