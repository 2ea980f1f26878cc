internal import Model

/// Which addresses of a libvirt network are reserved for Apus, and for whom. Decides; does nothing itself.
///
/// A reservation costs libvirt 9 some 400 ms on a network with NAT, because it writes all firewall rules anew, twice
/// what starting a guest costs. So a few are made ahead (spares), and those of deleted guests are used again.
struct AddressTable: Sendable, Hashable {
    struct Entry: Sendable, Hashable {
        var mac: String
        var address: IPv4Address
        /// `nil` for a spare.
        var owner: InstanceID?
        /// Tells the NICs that were added to an instance from each other; `nil` for the one it began with.
        var key: String?

        /// Whether it is left of a guest that lives elsewhere now, with its MAC: good for nobody else.
        var isDeparted: Bool { owner == nil && key == AddressTable.departed }
    }

    /// The key of such entries, in the record, too.
    private static let departed = "departed"

    /// What is to be done with libvirt so that the table and the number of spares are right.
    enum Upkeep: Sendable, Hashable {
        case restore(Entry)
        case add
        case remove(Entry)
    }

    private(set) var entries: [Entry] = []
    /// MACs of entries that an instance has and libvirt has not: the network was defined anew, or the guest has come from
    /// another host and its reservation is made later.
    private(set) var missing: Set<String> = []
    let target: Int

    /// - Parameter target: spares to keep. Less than half of it are filled up, more than twice as many are cut down; in
    ///   between nothing is done, so that a guest which comes and goes costs nothing.
    init(target: Int) { self.target = target }

    var spares: [Entry] { entries.filter { $0.owner == nil && !isInTheWay($0) } }

    /// Whether nobody can have it: it is a departed guest's, or its address is another one's that libvirt has not yet.
    private func isInTheWay(_ entry: Entry) -> Bool {
        entry.isDeparted || entry.owner == nil && entries.contains { $0.owner != nil && $0.address == entry.address }
    }

    func entry(of id: InstanceID, key: String? = nil) -> Entry? {
        entries.first { $0.owner == id && $0.key == key }
    }

    /// Who has the address: an instance before a spare.
    func entry(at address: IPv4Address) -> Entry? {
        let found = entries.filter { $0.address == address }
        return found.first { $0.owner != nil } ?? found.first
    }

    /// What libvirt has at the address of an entry that it has not.
    func obstacle(to entry: Entry) -> Entry? {
        entries.first { $0.address == entry.address && $0.mac != entry.mac && $0.owner == nil }
    }

    func entry(withMAC mac: String) -> Entry? { entries.first { $0.mac == mac } }

    /// Makes an entry the instance's.
    mutating func give(_ entry: Entry, to id: InstanceID, key: String?) {
        guard let index = entries.firstIndex(where: { $0.mac == entry.mac }) else { return }
        (entries[index].owner, entries[index].key) = (id, key)
    }

    /// Makes a spare the instance's: any, or the one with the address that it wants.
    mutating func claimSpare(for id: InstanceID, key: String? = nil, address: IPv4Address? = nil) -> Entry? {
        let found = entries.firstIndex {
            $0.owner == nil && !isInTheWay($0) && (address == nil || $0.address == address)
        }
        guard let index = found else { return nil }
        entries[index].owner = id
        entries[index].key = key
        return entries[index]
    }

    /// - Parameter isMissing: libvirt has not got it yet.
    mutating func insert(_ entry: Entry, isMissing: Bool = false) {
        remove(entry)
        entries.append(entry)
        if isMissing { missing.insert(entry.mac) }
    }

    /// Leaves what an instance had for `upkeep` to remove. Whether it had anything.
    mutating func depart(_ id: InstanceID) -> Bool {
        var hadAny = false
        for index in entries.indices where entries[index].owner == id {
            (entries[index].owner, entries[index].key) = (nil, Self.departed)
            hadAny = true
        }
        dropMissingOfNobody()
        return hadAny
    }

    mutating func remove(_ entry: Entry) {
        entries.removeAll { $0.mac == entry.mac }
        missing.remove(entry.mac)
    }

    /// Makes spares of what an instance had: all of it, or one NIC. Whether it had anything.
    mutating func giveBack(_ id: InstanceID, mac: String? = nil) -> Bool {
        var hadAny = false
        for index in entries.indices where entries[index].owner == id && (mac == nil || entries[index].mac == mac) {
            (entries[index].owner, entries[index].key) = (nil, nil)
            hadAny = true
        }
        dropMissingOfNobody()
        return hadAny
    }

    /// What libvirt does not have is no spare.
    private mutating func dropMissingOfNobody() {
        entries.removeAll { $0.owner == nil && missing.contains($0.mac) }
        missing.formIntersection(entries.map(\.mac))
    }

    /// Whether an entry is the instance's, and libvirt has not got it.
    func lacks(_ entry: Entry, of id: InstanceID) -> Bool { entry.owner == id && missing.contains(entry.mac) }

    mutating func restored(_ entry: Entry) { missing.remove(entry.mac) }

    /// Addresses of instances, whether libvirt has them or not.
    var owned: Set<IPv4Address> { Set(entries.filter { $0.owner != nil }.map(\.address)) }

    /// The next thing to do; `isFilling` says whether the one before was an `add`, which goes on up to the target.
    /// - Parameter refused: MACs of entries that libvirt would not restore.
    func upkeep(isFilling: Bool, refused: Set<String> = []) -> Upkeep? {
        if let entry = entries.first(where: { missing.contains($0.mac) && !refused.contains($0.mac) }) {
            return obstacle(to: entry).map { .remove($0) } ?? .restore(entry)
        }
        if let entry = entries.first(where: isInTheWay) { return .remove(entry) }
        let count = spares.count
        if count < (isFilling ? target : (target + 1) / 2) { return .add }
        if count > target * 2, let last = spares.last { return .remove(last) }
        return nil
    }

    /// The table after a start: what libvirt has under our names, with the owners of the record.
    /// - Parameter users: instances by the MACs of their domains, for when the record was lost.
    init(target: Int, record: [Entry], reserved: [Entry], users: [String: InstanceID]) {
        self.init(target: target)
        let owned = Dictionary(
            record.filter { $0.owner != nil || $0.isDeparted }.map { ($0.mac, $0) }
        ) { first, _ in first }
        entries = reserved.map { entry in
            let known = owned[entry.mac]
            return Entry(
                mac: entry.mac, address: entry.address, owner: known?.owner ?? users[entry.mac], key: known?.key)
        }
        let present = Set(reserved.map(\.mac))
        let lost = record.filter { $0.owner != nil && !present.contains($0.mac) }
        entries += lost
        missing = Set(lost.map(\.mac))
    }

    // MARK: - Record

    /// One line each: MAC, address, owner or `-`, and the key of a NIC that has one.
    var record: String {
        entries.map { entry in
            "\(entry.mac) \(entry.address) \(entry.owner?.rawValue ?? "-")\(entry.key.map { " " + $0 } ?? "")\n"
        }.joined()
    }

    /// The entries of a record; lines that are none are left out.
    static func entries(inRecord text: String) -> [Entry] {
        text.split(separator: "\n").compactMap { line in
            let parts = line.split(separator: " ").map(String.init)
            guard (3...4).contains(parts.count), let address = IPv4Address(parts[1]) else { return nil }
            guard parts[2] == "-" || isLowerCaseUUID(parts[2]) else { return nil }
            return Entry(
                mac: parts[0], address: address, owner: parts[2] == "-" ? nil : InstanceID(parts[2]),
                key: parts.count == 4 ? parts[3] : nil)
        }
    }
}
