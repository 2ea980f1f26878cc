import Model
import Testing
import XML

@testable import LibvirtDriver

@Suite("Addresses of a libvirt network")
struct NetworkDescriptionTests {
    private func network(_ hosts: String = "", range: String = "<range start='10.1.0.2' end='10.1.0.5'/>") throws
        -> NetworkDescription
    {
        NetworkDescription(
            try XMLNode(
                parsing: """
                    <network><name>lab</name>
                      <ip family='ipv6' address='fd00::1' prefix='64'><dhcp><range start='fd00::2' end='fd00::9'/></dhcp></ip>
                      <ip address='10.1.0.2' netmask='255.255.255.0'><dhcp>\(range)\(hosts)</dhcp></ip>
                    </network>
                    """))
    }

    private func address(_ text: String) throws -> IPv4Address { try #require(IPv4Address(text)) }

    @Test("The lowest free address of the range is chosen, never the host's own")
    func lowest() throws {
        #expect(try network().freeAddress(leased: [])?.description == "10.1.0.3")
    }

    @Test("Reserved and leased addresses are passed over")
    func passedOver() throws {
        let network = try network("<host mac='fa:16:3e:00:00:01' name='vm-1' ip='10.1.0.3'/>")
        #expect(network.freeAddress(leased: [try address("10.1.0.4")])?.description == "10.1.0.5")
        #expect(
            network.reservations == [
                .init(mac: "fa:16:3e:00:00:01", name: "vm-1", address: try address("10.1.0.3"))
            ])
    }

    @Test("With all others taken, the lease of a guest that is gone gives way")
    func staleLease() throws {
        let network = try network("<host mac='fa:16:3e:00:00:01' ip='10.1.0.3'/>")
        let leased = Set(try ["10.1.0.3", "10.1.0.4", "10.1.0.5"].map(address))
        #expect(network.freeAddress(leased: leased)?.description == "10.1.0.4")
    }

    @Test("A full range, or a network without one, has no address")
    func full() throws {
        let hosts = (3...5).map { "<host mac='fa:16:3e:00:00:0\($0)' ip='10.1.0.\($0)'/>" }.joined()
        #expect(try network(hosts).freeAddress(leased: []) == nil)
        #expect(try network(range: "").freeAddress(leased: []) == nil)
        #expect(NetworkDescription(try XMLNode(parsing: "<network><name>x</name></network>")).ranges.isEmpty)
    }

    @Test("A range that ends with the last address of all ends", arguments: ["255.255.255.254"])
    func end(start: String) throws {
        let network = try network(range: "<range start='\(start)' end='255.255.255.255'/>")
        let leased = Set(try [start, "255.255.255.255"].map(address))
        #expect(network.freeAddress(leased: leased)?.description == start)
    }

    @Test(
        "Text that is no address is none",
        arguments: ["", "1.2.3", "1.2.3.256", "1.2.3.4.5", "1.2.3.-4", "a.b.c.d", "1.2.3.0004"])
    func malformed(text: String) {
        #expect(IPv4Address(text) == nil)
    }

    @Test("The configured network is libvirt's or a bridge")
    func binding() {
        #expect(NetworkBinding("libvirt:default") == .libvirt("default"))
        #expect(NetworkBinding("bridge:br0") == .bridge("br0"))
        for text in ["", "default", "libvirt:", "bridge:", "bridge:a-name-that-is-too-long", "vlan:3", "libvirt:a/b"] {
            #expect(NetworkBinding(text) == nil, "\(text)")
        }
    }

    @Test("MACs are local, the same each time for an instance, and others at the next attempt")
    func macs() {
        let first = MACAddress.make(Sample.id, nic: "0", attempt: 0)
        #expect(first.hasPrefix("fa:16:3e:") && first.utf8.count == 17)
        #expect(first == MACAddress.make(Sample.id, nic: "0", attempt: 0))
        #expect(first != MACAddress.make(Sample.id, nic: "0", attempt: 1))
    }
}
