internal import Crypto
internal import Libvirt
internal import Model
internal import Synchronization
internal import Telemetry
internal import XML

/// The addresses of one libvirt network that are reserved for Apus, by `virNetworkUpdate`, under names of ours:
/// `apus-TAG-A-B-C-D`, where the tag says which installation on this host made them. Never touches any other.
final class AddressBook: Sendable {
    /// How the book reaches what the driver has.
    struct Access: Sendable {
        var connection: @Sendable () async throws -> LibvirtConnection
        /// Instances by the MACs of the domains here, ours or not.
        var users: @Sendable () async throws -> [String: InstanceID]
        /// Returns when nobody needs the network for a moment; libvirt has who does wait while it changes.
        var quiet: @Sendable () async throws -> Void = {}
    }

    /// How often another address is tried when somebody takes the chosen one first.
    private static let attempts = 8

    let network: String
    private let file: String
    private let prefix: String
    private let target: Int
    private let files: BlockingExecutor
    private let access: Access
    private let gate = SerialGate()
    private let upkeepGate = SerialGate()
    private let table = Mutex<AddressTable?>(nil)
    private let isStale = Mutex(false)
    private let log = Logger("libvirt-driver.addresses")

    /// - Parameters:
    ///   - folder: of the records.
    ///   - spares: reservations to keep ahead; 0 reserves and releases one by one.
    init(network: String, folder: String, spares: Int, files: BlockingExecutor, access: Access) {
        (self.network, target, self.files, self.access) = (network, spares, files, access)
        file = folder + "/" + network
        prefix = "apus-" + Hex.encode(Array(digest(.sha256, of: Array(folder.utf8)).prefix(3))) + "-"
    }

    /// Compares with libvirt before the next use. What is being changed now is recorded all the same.
    func forget() { isStale.withLock { $0 = true } }

    /// The instance's NIC: the one it has for `key`, a spare, or a new one. Under 10 ms with a spare.
    /// - Parameters:
    ///   - key: without white space; `nil` for the NIC that the instance begins with.
    ///   - address: the one that it is to have.
    /// - Throws: `.conflict` when the address is taken, `.invalidParameters` when it is none of the network's.
    func plug(_ id: InstanceID, key: String? = nil, address: IPv4Address? = nil) async throws -> NetworkInterface {
        try await gate.run {
            let connection = try await access.connection()
            try await requireActive(connection)
            var table = try await loaded(connection)
            if let known = table.entry(of: id, key: key) {
                if table.missing.contains(known.mac) { try await restore(known, connection) }
                return interface(known)
            }
            if let spare = table.claimSpare(for: id, key: key, address: address) {
                try await save(table)
                return interface(spare)
            }
            let made = try await reserve(owner: id, key: key, wanted: address, connection)
            return interface(made)
        }
    }

    /// Gives back what the instance had, or one NIC of it; nothing when it had nothing, or the network is gone.
    func unplug(_ id: InstanceID, mac: String? = nil) async throws {
        try await gate.run {
            let connection = try await access.connection()
            guard var table = try await loadedIfPresent(connection), table.giveBack(id, mac: mac) else { return }
            try await save(table)
            guard target == 0 else { return }
            while let spare = self.table.withLock({ $0?.spares.first }) { try await release(spare, connection) }
        }
    }

    /// Has libvirt reserve what the instance has and libvirt has not; nothing when the network is gone. A guest that starts
    /// asks for it.
    func complete(_ id: InstanceID) async throws {
        // Nearly always there is nothing to do, and the gate may be held for half a second.
        if let known, !known.entries.contains(where: { known.lacks($0, of: id) }) { return }
        try await gate.run {
            let connection = try await access.connection()
            guard let table = try await loadedIfPresent(connection) else { return }
            for entry in table.entries where table.lacks(entry, of: id) {
                do {
                    try await restore(entry, connection)
                } catch {
                    // It runs with another address then; that of the record is tried again by `maintain`.
                    log.warning(
                        "an address of an instance cannot be reserved",
                        ["instance": id, "network": network, "address": entry.address.description, "error": "\(error)"])
                }
            }
        }
    }

    /// Makes the NIC that the instance has had on another host its own here: with its MAC, and with its address where
    /// that is free. Asked again it gives the same.
    /// - Parameter isLater: libvirt gets it by `maintain` or `complete`, whichever comes first; a guest that runs has its
    ///   address and asks for it again only when half of its lease is over.
    func adopt(
        _ id: InstanceID, key: String?, mac: String, address: IPv4Address?, isLater: Bool = false
    ) async throws -> NetworkInterface {
        try await gate.run {
            let connection = try await access.connection()
            try await requireActive(connection)
            var table = try await loaded(connection)
            // Without spares nobody maintains anything.
            let isLater = isLater && target > 0
            var known = table.entry(withMAC: mac)
            if let former = known, former.owner == nil,
                address != nil && former.address != address
                    || table.entry(at: former.address)?.owner != nil
            {
                // It was here before, with an address that it has no more.
                try await release(former, connection)
                (known, table) = (nil, try await loaded(connection))
            }
            if let known {
                guard known.owner == nil || known.owner == id else {
                    throw Failure(.conflict, "the MAC \(mac) is reserved for another guest on this host")
                }
                if !isLater, table.missing.contains(mac) { try await restore(known, connection) }
                if known.owner == nil {
                    table.give(known, to: id, key: key)
                    try await save(table)
                }
                return interface(known)
            }
            // Hosts whose networks have the same addresses begin with the same ones: the spares here are likely to have
            // it.
            let holder = address.flatMap { table.entry(at: $0) }
            let isOurs = holder != nil && holder?.owner == nil
            if let holder, isOurs, !isLater { try await release(holder, connection) }
            let description = try await describe(connection)
            guard !description.reservations.contains(where: { $0.mac == mac }) else {
                throw Failure(.conflict, "the MAC \(mac) is reserved for another guest on this host")
            }
            let isFree =
                isLater && isOurs
                || holder?.owner == nil && address.map { (try? description.requireFree($0)) != nil } == true
            if isLater, isFree, let address {
                let entry = AddressTable.Entry(mac: mac, address: address, owner: id, key: key)
                try await change { $0.insert(entry, isMissing: true) }
                return interface(entry)
            }
            let made = try await reserve(
                owner: id, key: key, wanted: isFree ? address : nil, mac: mac, connection)
            return interface(made)
        }
    }

    /// Gives back what the instance had, and keeps none of it: the MACs are those of a guest that lives elsewhere.
    /// - Parameter isLater: libvirt loses it by `maintain`.
    func forget(_ id: InstanceID, isLater: Bool = false) async throws {
        try await gate.run {
            let connection = try await access.connection()
            guard var table = try await loadedIfPresent(connection) else { return }
            if table.depart(id) { try await save(table) }
            guard target == 0 || !isLater else { return }
            while let entry = self.table.withLock({ $0?.entries.first(where: \.isDeparted) }) {
                try await release(entry, connection)
            }
        }
    }

    /// Brings the number of spares in order, and back what libvirt lost. Up to 0.5 s for each change, and as long a
    /// pause after it, in which guests can start.
    func maintain() async throws {
        try await upkeepGate.run {
            var isFilling = false
            var refused: Set<String> = []
            while target > 0 {
                try Task.checkCancellation()
                try await access.quiet()
                let begin = ContinuousClock.now
                // The gate is held for one change at a time, so that who plugs waits for one at most.
                let next = try await gate.run { () -> AddressTable.Upkeep? in
                    let connection = try await access.connection()
                    guard let table = try await loadedIfPresent(connection) else { return nil }
                    let next = table.upkeep(isFilling: isFilling, refused: refused)
                    switch next {
                    case .add: _ = try await reserve(owner: nil, connection)
                    case .remove(let entry): try await release(entry, connection)
                    case .restore(let entry):
                        do {
                            try await restore(entry, connection)
                        } catch let failure as Failure where !failure.isRetriable {
                            // The others have theirs all the same.
                            refused.insert(entry.mac)
                            log.warning(
                                "an address of an instance cannot be reserved",
                                ["network": network, "address": entry.address.description, "error": failure])
                        }
                    case nil: break
                    }
                    return next
                }
                guard let next else { return }
                isFilling = next == .add
                try await AlarmClock().sleep(for: min(ContinuousClock.now - begin, .seconds(1)))
            }
        }
    }

    // MARK: - Changes, inside the gate

    private func reserve(
        owner: InstanceID?, key: String? = nil, wanted: IPv4Address? = nil, mac given: String? = nil,
        _ connection: LibvirtConnection
    ) async throws -> AddressTable.Entry {
        var refusal: LibvirtError?
        for _ in 0..<Self.attempts {
            let description = try await describe(connection)
            // libvirt does not know of all that instances have.
            let owned = table.withLock { $0?.owned ?? [] }
            if let wanted {
                try description.requireFree(wanted)
                guard !owned.contains(wanted) else {
                    throw Failure(.conflict, "the address \(wanted) is another instance's on this host")
                }
            }
            let leased = wanted == nil ? try await leases(connection) : []
            guard let address = wanted ?? description.freeAddress(leased: leased.union(owned)) else {
                throw Failure(
                    .networkUnavailable,
                    description.ranges.isEmpty
                        ? "the libvirt network '\(network)' gives out no IPv4 addresses"
                        : "all addresses of the libvirt network '\(network)' are taken", isRetriable: true)
            }
            let users = try await access.users()
            let taken = Set(description.reservations.compactMap(\.mac)).union(users.keys)
            var mac = given ?? MACAddress.random()
            while given == nil, taken.contains(mac) { mac = MACAddress.random() }
            let entry = AddressTable.Entry(mac: mac, address: address, owner: owner, key: key)
            do {
                try await connection.addDHCPHost(try host(entry), toNetwork: network)
            } catch let error as LibvirtError {
                guard error.code == .operationInvalid else { throw failure(error) }
                refusal = error
                continue
            }
            try await change { $0.insert(entry) }
            return entry
        }
        throw Failure(
            .networkUnavailable,
            "no address of the libvirt network '\(network)' could be reserved: \(refusal?.message ?? "")",
            isRetriable: true)
    }

    private func release(_ entry: AddressTable.Entry, _ connection: LibvirtConnection) async throws {
        do {
            try await connection.removeDHCPHost(try host(entry), fromNetwork: network)
        } catch let error as LibvirtError where error.code == .operationInvalid || error.code == .noNetwork {
            // Given back already, or the network went with all it had.
        } catch let error as LibvirtError {
            throw failure(error)
        }
        try await change { $0.remove(entry) }
    }

    private func restore(_ entry: AddressTable.Entry, _ connection: LibvirtConnection) async throws {
        if let obstacle = table.withLock({ $0?.obstacle(to: entry) }) { try await release(obstacle, connection) }
        do {
            try await connection.addDHCPHost(try host(entry), toNetwork: network)
        } catch let error as LibvirtError {
            // libvirt may have taken it before, and its answer have been lost.
            guard error.code == .operationInvalid else { throw failure(error) }
            let reservations = try await describe(connection).reservations
            guard reservations.contains(where: { $0.mac == entry.mac && $0.address == entry.address }) else {
                var refusal = failure(error)
                refusal.isRetriable = false
                throw refusal
            }
        }
        try await change { $0.restored(entry) }
    }

    private func change(_ body: (inout AddressTable) -> Void) async throws {
        guard var table = table.withLock({ $0 }) else { return }
        body(&table)
        try await save(table)
    }

    /// Records the table durably, and makes it the one in force.
    private func save(_ table: AddressTable) async throws {
        let (file, bytes) = (file, Array(table.record.utf8))
        try await files.run { () throws(Failure) in
            try Files.makeFolder(Files.parent(file), mode: 0o700)
            try Files.replace(file, with: bytes, mode: 0o600)
        }
        self.table.withLock { $0 = table }
    }

    // MARK: - Looks

    private func loaded(_ connection: LibvirtConnection) async throws -> AddressTable {
        if let known { return known }
        // Before the look: what happens meanwhile is looked for again.
        isStale.withLock { $0 = false }
        do {
            return try await load(connection)
        } catch {
            isStale.withLock { $0 = true }
            throw error
        }
    }

    /// The table, unless it is to be compared with libvirt first.
    private var known: AddressTable? { isStale.withLock { $0 } ? nil : table.withLock { $0 } }

    private func load(_ connection: LibvirtConnection) async throws -> AddressTable {
        let description = try await describe(connection)
        let record = try await files.run { [file] () throws(Failure) in try Files.read(file, limit: 4 << 20) } ?? []
        let reserved = description.reservations.compactMap { host -> AddressTable.Entry? in
            guard let mac = host.mac, let address = host.address, host.name?.hasPrefix(prefix) == true else {
                return nil
            }
            return AddressTable.Entry(mac: mac, address: address, owner: nil)
        }
        // Others have guests on the network, too.
        let fresh = AddressTable(
            target: min(target, description.capacity / 4),
            record: AddressTable.entries(inRecord: String(decoding: record, as: UTF8.self)),
            reserved: reserved, users: try await access.users())
        // What an earlier process reserved and died before it recorded is ours again, and on record from here on.
        if fresh.record == String(decoding: record, as: UTF8.self) {
            table.withLock { $0 = fresh }
        } else {
            try await save(fresh)
        }
        return fresh
    }

    /// As `loaded`; `nil` when there is no such network.
    private func loadedIfPresent(_ connection: LibvirtConnection) async throws -> AddressTable? {
        if let known { return known }
        do {
            return try await loaded(connection)
        } catch let error as Failure where error.kind == .networkUnavailable {
            let isThere: Bool
            do {
                isThere = try await connection.networks().contains(network)
            } catch {
                throw failure(error)
            }
            guard !isThere else { throw error }
            return nil
        }
    }

    private func requireActive(_ connection: LibvirtConnection) async throws {
        do {
            guard try await connection.isNetworkActive(network) else {
                throw Failure(.networkUnavailable, "the libvirt network '\(network)' is not active", isRetriable: true)
            }
        } catch let error as LibvirtError {
            throw failure(error)
        }
    }

    private func describe(_ connection: LibvirtConnection) async throws -> NetworkDescription {
        do {
            return NetworkDescription(try XMLNode(parsing: try await connection.networkXML(network)))
        } catch let error as LibvirtError {
            throw failure(error)
        } catch let error as XMLError {
            throw Failure(
                .networkUnavailable, "the XML of network '\(network)' cannot be read: \(error)", isRetriable: true)
        }
    }

    private func leases(_ connection: LibvirtConnection) async throws -> Set<IPv4Address> {
        do {
            return Set(try await connection.dhcpLeases(ofNetwork: network).compactMap { IPv4Address($0.address) })
        } catch  where error.code == .noSupport {
            return []
        } catch {
            throw failure(error)
        }
    }

    private func host(_ entry: AddressTable.Entry) throws(Failure) -> DHCPHost {
        let name = prefix + entry.address.description.replacing(".", with: "-")
        guard let host = DHCPHost(mac: entry.mac, address: entry.address.description, name: name) else {
            throw Failure(.networkUnavailable, "\(entry.mac) with \(entry.address) cannot be reserved as \(name)")
        }
        return host
    }

    private func interface(_ entry: AddressTable.Entry) -> NetworkInterface {
        NetworkInterface(network: network, macAddress: entry.mac, ipv4Address: entry.address.description)
    }

    private func failure(_ error: LibvirtError) -> Failure {
        let failure = Failure(error, "libvirt network '\(network)'")
        guard failure.kind == .hypervisor else { return failure }
        return Failure(.networkUnavailable, failure.message, isRetriable: failure.isRetriable)
    }
}
