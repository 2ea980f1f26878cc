internal import Model
internal import XML

/// An IPv4 address as a number.
struct IPv4Address: Hashable, Comparable, Sendable, CustomStringConvertible {
    let value: UInt32

    init(value: UInt32) { self.value = value }

    init?(_ text: String) {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 4 else { return nil }
        var value: UInt32 = 0
        for part in parts {
            guard part.utf8.count <= 3, part.utf8.allSatisfy({ (48...57).contains($0) }), let byte = UInt8(part) else {
                return nil
            }
            value = value << 8 | UInt32(byte)
        }
        self.value = value
    }

    var description: String {
        [24, 16, 8, 0].map { String(value >> $0 & 255) }.joined(separator: ".")
    }

    static func < (left: IPv4Address, right: IPv4Address) -> Bool { left.value < right.value }
}

/// What of a libvirt network's XML the reservation of addresses needs.
struct NetworkDescription: Sendable, Hashable {
    /// A `<host>` of the network's DHCP server.
    struct Reservation: Sendable, Hashable {
        var mac: String?
        var name: String?
        var address: IPv4Address?
    }

    let name: String
    /// First and last address of each DHCP range.
    let ranges: [ClosedRange<IPv4Address>]
    let reservations: [Reservation]
    /// The host's own address on the network.
    let gateway: IPv4Address?

    init(_ document: XMLNode) {
        name = document.first("name")?.text ?? ""
        // The first IPv4 element with DHCP is the one that libvirt lets have it.
        let addressed = document.all("ip").first { ip in
            ip["family"] != "ipv6" && ip.first("dhcp") != nil
        }
        gateway = addressed?["address"].flatMap(IPv4Address.init)
        ranges = (addressed?.all("dhcp/range") ?? []).compactMap { range in
            guard let start = range["start"].flatMap(IPv4Address.init),
                let end = range["end"].flatMap(IPv4Address.init), start <= end
            else { return nil }
            return start...end
        }
        reservations = (addressed?.all("dhcp/host") ?? []).map { host in
            Reservation(
                mac: host["mac"]?.lowercased(), name: host["name"],
                address: host["ip"].flatMap(IPv4Address.init))
        }
    }

    /// How many addresses the ranges have.
    var capacity: Int { ranges.reduce(0) { $0 + Int($1.upperBound.value - $1.lowerBound.value) + 1 } }

    /// Throws unless `address` is one that the network gives out and nobody has.
    func requireFree(_ address: IPv4Address) throws(Failure) {
        guard ranges.contains(where: { $0.contains(address) }), address != gateway else {
            throw Failure(.invalidParameters, "the network '\(name)' does not give out \(address)")
        }
        guard !reservations.contains(where: { $0.address == address }) else {
            throw Failure(.conflict, "the address \(address) of the network '\(name)' is taken")
        }
    }

    /// The lowest address of the ranges that nobody has: not reserved, not the host's, not leased. When only leases
    /// are in the way, the lowest leased one: its guest is gone, since every guest of ours has a reservation.
    func freeAddress(leased: Set<IPv4Address>) -> IPv4Address? {
        var taken = Set(reservations.compactMap(\.address))
        if let gateway { taken.insert(gateway) }
        var fallback: IPv4Address?
        for range in ranges {
            var value = range.lowerBound.value
            while true {
                let address = IPv4Address(value: value)
                if !taken.contains(address) {
                    if !leased.contains(address) { return address }
                    fallback = fallback ?? address
                }
                guard value < range.upperBound.value else { break }
                value += 1
            }
        }
        return fallback
    }
}
