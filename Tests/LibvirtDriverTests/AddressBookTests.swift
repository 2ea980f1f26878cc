import Crypto
import Libvirt
import Model
import Synchronization
import Telemetry
import Testing
import XML

@testable import LibvirtDriver

private let ids = (1...9).map { InstanceID("00000000-0000-4000-8000-00000000000\($0)") }

@Suite("Table of reserved addresses")
struct AddressTableTests {
    private func entry(_ number: UInt32, _ owner: InstanceID? = nil) -> AddressTable.Entry {
        .init(mac: "fa:16:3e:00:00:0\(number)", address: IPv4Address(value: number), owner: owner)
    }

    private func table(_ entries: [AddressTable.Entry], target: Int = 4) -> AddressTable {
        AddressTable(target: target, record: entries, reserved: entries, users: [:])
    }

    @Test("A record is read as it was written; lines that are none are left out")
    func record() {
        let entries = [entry(1, ids[0]), entry(2)]
        #expect(AddressTable.entries(inRecord: table(entries).record) == entries)
        #expect(AddressTable.entries(inRecord: "\n\0\nfa:16 1.2.3.4\nfa:16 1.2.3.4 ../x\nfa:16 1.2.3 -") == [])
    }

    @Test("Spares are filled up when less than half are left, and up to the target")
    func filling() {
        #expect(table((1...2).map { entry($0) }).upkeep(isFilling: false) == nil)
        #expect(table([entry(1)]).upkeep(isFilling: false) == .add)
        #expect(table((1...3).map { entry($0) }).upkeep(isFilling: true) == .add)
        #expect(table((1...4).map { entry($0) }).upkeep(isFilling: true) == nil)
    }

    @Test("More than twice the target are cut down")
    func trimming() {
        #expect(table((1...8).map { entry($0) }).upkeep(isFilling: false) == nil)
        #expect(table((1...9).map { entry($0) }).upkeep(isFilling: false) == .remove(entry(9)))
    }

    @Test("An instance's reservation that libvirt lost is restored; a spare one is forgotten")
    func lost() {
        var table = AddressTable(
            target: 0, record: [entry(1, ids[0]), entry(2)], reserved: [], users: [:])
        #expect(table.entries == [entry(1, ids[0])])
        #expect(table.upkeep(isFilling: false) == .restore(entry(1, ids[0])))
        table.restored(entry(1, ids[0]))
        #expect(table.upkeep(isFilling: false) == nil)
    }

    @Test("A lost reservation that is given back is no spare")
    func lostAndGivenBack() {
        var table = AddressTable(target: 4, record: [entry(1, ids[0])], reserved: [], users: [:])
        let hadAny = table.giveBack(ids[0])
        #expect(hadAny)
        #expect(table.entries.isEmpty && table.missing.isEmpty)
    }

    @Test("When the record is lost, the domains tell whose an address is")
    func recordLost() {
        let table = AddressTable(
            target: 4, record: [], reserved: [entry(1), entry(2)], users: [entry(2).mac: ids[3]])
        #expect(table.entry(of: ids[3]) == entry(2, ids[3]))
        #expect(table.spares == [entry(1)])
    }
}

@Suite("Reserved addresses of a network of the test driver")
struct AddressBookTests {
    private let folder: TemporaryFolder
    private let connection: LibvirtConnection
    private let files = BlockingExecutor(name: "test", threads: 1)

    private static let network = """
        <network><name>lab</name><uuid>b059a003-f7a8-4a95-a1e3-02c59ba8c0ed</uuid><bridge name='virbr9'/><forward/><ip address='10.9.0.1' netmask='255.255.255.0'><dhcp>
        <range start='10.9.0.2' end='10.9.0.200'/><host mac='52:54:00:00:00:01' name='printer' ip='10.9.0.2'/>
        </dhcp></ip></network>
        """

    init() async throws {
        folder = try TemporaryFolder()
        let node = try folder.write(Array("<node>\(Self.network)</node>".utf8), to: "node.xml")
        connection = try await LibvirtConnection.open(uri: "test://" + node)
    }

    private func book(spares: Int = 2, users: [String: InstanceID] = [:]) -> AddressBook {
        AddressBook(
            network: "lab", folder: folder.path + "/networks", spares: spares, files: files,
            access: .init(connection: { [connection] in connection }, users: { users }))
    }

    private func reservations() async throws -> [NetworkDescription.Reservation] {
        NetworkDescription(try XMLNode(parsing: try await connection.networkXML("lab"))).reservations
    }

    @Test("Spares are made ahead, used, used again, and cut down; what others reserved stays")
    func spares() async throws {
        let book = book()
        try await book.maintain()
        #expect(try await reservations().count == 3)
        let first = try await book.plug(ids[0])
        #expect(try await book.plug(ids[0]) == first)
        #expect(try await reservations().contains { $0.mac == first.macAddress })
        try await book.unplug(ids[0])
        #expect(try await book.plug(ids[1]) == first, "the address of a deleted guest is used again")
        let more = try await [book.plug(ids[2]), book.plug(ids[3]), book.plug(ids[4]), book.plug(ids[5])]
        #expect(Set(more.map(\.ipv4Address)).union([first.ipv4Address]).count == 5)
        for id in ids { try await book.unplug(id) }
        try await book.maintain()
        let left = try await reservations()
        #expect(left.count == 1 + 4, "twice the target stay")
        #expect(left.contains { $0.name == "printer" })
    }

    @Test("Spares leave three quarters of a network to others, however many are wanted")
    func quarter() async throws {
        let book = book(spares: 200)
        try await book.maintain()
        let description = NetworkDescription(try XMLNode(parsing: try await connection.networkXML("lab")))
        #expect(description.reservations.count == 1 + description.capacity / 4)
        #expect(description.capacity >= 8)
    }

    @Test("Another process of ours finds who has what in the record")
    func restart() async throws {
        let before = book()
        try await before.maintain()
        let plugged = try await before.plug(ids[0])
        let after = book()
        #expect(try await after.plug(ids[0]) == plugged)
        #expect(try await after.plug(ids[1]) != plugged)
    }

    @Test("An installation elsewhere does not take our spares")
    func otherInstallation() async throws {
        try await book().maintain()
        let ours = Set(try await reservations().compactMap(\.mac))
        let other = AddressBook(
            network: "lab", folder: folder.path + "/others", spares: 0, files: files,
            access: .init(connection: { [connection] in connection }, users: { [:] }))
        #expect(try await !ours.contains(other.plug(ids[0]).macAddress))
    }

    @Test("A network that was defined anew gets its reservations back")
    func redefined() async throws {
        let book = book()
        let plugged = try await book.plug(ids[0])
        try await connection.destroyNetwork("lab")
        _ = try await connection.defineNetwork(xml: Self.network)
        try await connection.startNetwork("lab")
        book.forget()
        #expect(try await book.plug(ids[0]) == plugged)
        #expect(try await reservations().contains { $0.mac == plugged.macAddress })
    }

    @Test("A NIC from another host keeps its MAC, and its address where that is free; asked again it is the same")
    func adopted() async throws {
        let book = book()
        try await book.maintain()
        let spares = Set(try await reservations().compactMap(\.address))
        let (mac, other) = ("fa:16:3e:77:00:01", "fa:16:3e:77:00:02")
        let wanted = try #require(IPv4Address("10.9.0.150"))
        for _ in 1...2 {
            let adopted = try await book.adopt(ids[0], key: nil, mac: mac, address: wanted)
            #expect(
                adopted == NetworkInterface(network: "lab", macAddress: mac, ipv4Address: wanted.description))
        }
        #expect(try await book.plug(ids[0]).macAddress == mac)
        // The second NIC wants the address of a spare, which is nobody's.
        let spare = try #require(spares.sorted().last)
        let second = try await book.adopt(ids[0], key: other, mac: other, address: spare)
        #expect(second.ipv4Address == spare.description)
        #expect(try await reservations().filter { $0.address == spare }.map(\.mac) == [other])
        // Another process of ours finds both in the record.
        #expect(try await self.book().adopt(ids[0], key: other, mac: other, address: nil) == second)
        try await book.unplug(ids[0], mac: other)
        #expect(try await book.plug(ids[0]).macAddress == mac)

        try await book.forget(ids[0])
        try await book.forget(ids[0])
        #expect(try await !reservations().contains { $0.mac == mac })
    }

    @Test("What a guest that runs brings along is reserved later; nobody gets it before")
    func adoptedLater() async throws {
        let book = book()
        try await book.maintain()
        let spares = try await reservations().filter { $0.name?.hasPrefix("apus-") == true }
        let (mac, other) = ("fa:16:3e:77:00:01", "fa:16:3e:77:00:02")
        let (wanted, spare) = (try #require(IPv4Address("10.9.0.150")), try #require(spares.last?.address))
        for _ in 1...2 {
            let adopted = try await book.adopt(ids[0], key: nil, mac: mac, address: wanted, isLater: true)
            #expect(adopted.ipv4Address == wanted.description)
            // Where a spare has the address, libvirt has that until then.
            let second = try await book.adopt(ids[0], key: other, mac: other, address: spare, isLater: true)
            #expect(second.ipv4Address == spare.description)
        }
        #expect(try await !reservations().contains { $0.mac == mac || $0.mac == other })
        let plugged = try await [book.plug(ids[1]), book.plug(ids[2])]
        #expect(!plugged.contains { [wanted.description, spare.description].contains($0.ipv4Address) })
        // Another process of ours knows it, too.
        try await self.book().complete(ids[0])
        let found = try await reservations()
        #expect(found.contains { $0.mac == mac && $0.address == wanted })
        #expect(found.filter { $0.address == spare }.map(\.mac) == [other])
        book.forget()
        try await book.maintain()
        #expect(try await Set(reservations().compactMap(\.mac)).isSuperset(of: [mac, other]))
    }

    @Test("A guest that has left and comes back has its address again at once; nobody else has it meanwhile")
    func departed() async throws {
        let book = book(spares: 4)
        let mac = "fa:16:3e:77:00:01"
        let wanted = try #require(IPv4Address("10.9.0.150"))
        _ = try await book.adopt(ids[0], key: nil, mac: mac, address: wanted)
        try await book.forget(ids[0], isLater: true)
        for id in ids.dropFirst() { #expect(try await book.plug(id).macAddress != mac) }
        // Whoever reads the record anew sees that it is no spare.
        let again = self.book(spares: 4)
        #expect(try await again.adopt(ids[0], key: nil, mac: mac, address: wanted, isLater: true).macAddress == mac)
        #expect(try await reservations().contains { $0.mac == mac && $0.address == wanted })
        try await again.forget(ids[0], isLater: true)
        try await again.maintain()
        #expect(try await !reservations().contains { $0.mac == mac })
    }

    @Test("An address that is reserved later is nobody else's, even when there are no spares")
    func pendingIsTaken() async throws {
        let book = book()
        // The first that would be given out.
        let first = try #require(IPv4Address("10.9.0.3"))
        _ = try await book.adopt(ids[0], key: nil, mac: "fa:16:3e:77:00:01", address: first, isLater: true)
        let second = try await book.adopt(ids[1], key: nil, mac: "fa:16:3e:77:00:02", address: first, isLater: true)
        #expect(second.ipv4Address != first.description)
        #expect(try await book.plug(ids[2]).ipv4Address != first.description)
        let failure = await #expect(throws: Failure.self) { try await book.plug(ids[3], key: "k", address: first) }
        #expect(failure?.kind == .conflict)
        try await book.complete(ids[0])
        #expect(try await reservations().contains { $0.address == first && $0.mac == "fa:16:3e:77:00:01" })
    }

    @Test("One that comes back with another address, or whose address another has by now, does not have its old one")
    func departedAndChanged() async throws {
        let book = book(spares: 4)
        let (mac, other) = ("fa:16:3e:77:00:01", "fa:16:3e:77:00:02")
        let (old, new) = (try #require(IPv4Address("10.9.0.150")), try #require(IPv4Address("10.9.0.151")))
        _ = try await book.adopt(ids[0], key: nil, mac: mac, address: old)
        try await book.forget(ids[0], isLater: true)
        let moved = try await book.adopt(ids[0], key: nil, mac: mac, address: new, isLater: true)
        #expect(moved.ipv4Address == new.description)
        try await book.forget(ids[0], isLater: true)
        _ = try await book.adopt(ids[0], key: nil, mac: mac, address: old)
        try await book.forget(ids[0], isLater: true)
        let heir = try await book.adopt(ids[1], key: nil, mac: other, address: old, isLater: true)
        #expect(heir.ipv4Address == old.description)
        let back = try await book.adopt(ids[0], key: nil, mac: mac, address: old, isLater: true)
        #expect(back.ipv4Address != old.description)
        try await book.maintain()
        let found = try await reservations()
        #expect(found.filter { $0.address == old }.map(\.mac) == [other])
        #expect(found.filter { $0.mac == mac }.map(\.address?.description) == [back.ipv4Address])
    }

    @Test("An address that libvirt refuses keeps no guest from its start, and no other from its own")
    func refused() async throws {
        let book = book(spares: 2)
        let (taken, free) = (try #require(IPv4Address("10.9.0.150")), try #require(IPv4Address("10.9.0.151")))
        _ = try await book.adopt(ids[0], key: nil, mac: "fa:16:3e:77:00:01", address: taken, isLater: true)
        _ = try await book.adopt(ids[1], key: nil, mac: "fa:16:3e:77:00:02", address: free, isLater: true)
        let stranger = try #require(DHCPHost(mac: "52:54:00:00:00:09", address: taken.description, name: "stranger"))
        try await connection.addDHCPHost(stranger, toNetwork: "lab")
        try await book.complete(ids[0])
        try await book.maintain()
        let found = try await reservations()
        #expect(found.contains { $0.address == free } && found.count == 3 + 2, "two spares were made, too")
        try await connection.removeDHCPHost(stranger, fromNetwork: "lab")
        try await book.maintain()
        #expect(try await reservations().contains { $0.mac == "fa:16:3e:77:00:01" })
    }

    @Test("Upkeep waits until nobody needs the network")
    func quiet() async throws {
        let asked = Mutex(0)
        let book = AddressBook(
            network: "lab", folder: folder.path + "/networks", spares: 2, files: files,
            access: .init(
                connection: { [connection] in connection }, users: { [:] }, quiet: { asked.withLock { $0 += 1 } }))
        try await book.maintain()
        #expect(asked.withLock { $0 } == 3, "before each of two changes, and before the look that finds nothing to do")
    }

    @Test(
        "An address that is taken, none of the network's, or unknown gives another one",
        arguments: ["10.9.0.2", "10.9.0.1", "192.168.7.7", nil])
    func adoptedElsewhere(address: String?) async throws {
        let book = book()
        let mac = "fa:16:3e:77:00:01"
        let adopted = try await book.adopt(ids[0], key: nil, mac: mac, address: address.flatMap { IPv4Address($0) })
        #expect(adopted.macAddress == mac && adopted.ipv4Address != address && adopted.ipv4Address != nil)
        #expect(try await reservations().contains { $0.mac == mac })
    }

    @Test("The MAC of another guest here is not given away, whoever reserved it")
    func adoptedByOther() async throws {
        let book = book()
        let address = try #require(IPv4Address("10.9.0.150"))
        _ = try await book.adopt(ids[0], key: nil, mac: "fa:16:3e:77:00:01", address: address)
        for mac in ["fa:16:3e:77:00:01", "52:54:00:00:00:01"] {
            let failure = await #expect(throws: Failure.self) {
                _ = try await book.adopt(ids[1], key: nil, mac: mac, address: nil)
            }
            #expect(failure?.kind == .conflict)
        }
        // An address that another guest here has.
        let second = try await book.adopt(ids[1], key: nil, mac: "fa:16:3e:77:00:03", address: address)
        #expect(second.ipv4Address != address.description)
    }

    @Test("Every instance has a MAC of its own, with the prefix of virtual NICs")
    func macs() async throws {
        var seen: Set<String> = []
        let book = book(spares: 0)
        for id in ids { seen.insert(try await book.plug(id).macAddress) }
        #expect(seen.count == ids.count && seen.allSatisfy { $0.hasPrefix("fa:16:3e:") })
    }
}
