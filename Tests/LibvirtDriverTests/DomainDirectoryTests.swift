import Model
import Testing
import XML

@testable import LibvirtDriver

@Suite("What is remembered of domains")
struct DomainDirectoryTests {
    private static func entry(_ name: String, isOurs: Bool = true, _ interfaces: String) throws -> DomainDirectory.Entry
    {
        DomainDirectory.Entry(
            try XMLNode(parsing: "<domain><name>\(name)</name><devices>\(interfaces)</devices></domain>"),
            isOurs: isOurs)
    }

    @Test("Each NIC is known by its MAC, with what it is plugged into")
    func plugs() throws {
        let entry = try Self.entry(
            "instance-00000001",
            """
            <interface type='network'><mac address='52:54:00:AA:00:01'/><source network='default'/></interface>
            <interface type='bridge'><mac address='52:54:00:aa:00:02'/><source bridge='br7'/></interface>
            <interface type='network'><mac address='52:54:00:aa:00:03'/></interface>
            <interface type='user'><mac address='52:54:00:aa:00:04'/></interface>
            <interface type='network'><source network='default'/></interface>
            """)
        #expect(
            entry.plugs == [
                "52:54:00:aa:00:01": .libvirt("default"), "52:54:00:aa:00:02": .bridge("br7"),
                "52:54:00:aa:00:03": nil, "52:54:00:aa:00:04": nil,
            ])
    }

    @Test(
        "A domain's size is that of its definition; one that makes no sense is none",
        arguments: [
            ("<vcpu current='1'>2</vcpu><memory unit='KiB'>524289</memory>", 2, 513),
            ("<vcpu>0</vcpu><memory>1</memory>", 0, 0),
            ("<vcpu>1</vcpu><memory>-1</memory>", 0, 0), ("<vcpu>x</vcpu><memory>1</memory>", 0, 0),
            ("<vcpu>1</vcpu>", 0, 0),
        ])
    func size(text: String, vcpus: Int, memoryMiB: Int) throws {
        let document = try XMLNode(parsing: "<domain><name>n</name>\(text)</domain>")
        let wanted = vcpus > 0 ? Resources(vcpus: vcpus, memoryMiB: memoryMiB, diskGiB: 0) : nil
        #expect(DomainDirectory.Entry(document, isOurs: true).size == wanted)
    }

    @Test("Every domain's MACs are taken, but only bridges and networks with guests of ours count")
    func bindings() throws {
        let directory = DomainDirectory()
        let ids = (1...3).map { InstanceID("\($0)") }
        func nic(_ number: Int, _ source: String) -> String {
            "<interface type='network'><mac address='52:54:00:aa:00:0\(number)'/><source network='\(source)'/></interface>"
        }
        directory.learn(ids[0], try Self.entry("a", nic(1, "blue") + nic(2, "red")))
        directory.learn(ids[1], try Self.entry("b", nic(3, "blue")))
        directory.learn(ids[2], try Self.entry("c", isOurs: false, nic(4, "green")))
        #expect(directory.ownBindings == [.libvirt("blue"), .libvirt("red")])
        #expect(directory.users.count == 4 && directory.users["52:54:00:aa:00:04"] == ids[2])
        directory.forget(ids[0])
        #expect(directory.ownBindings == [.libvirt("blue")])
    }
}
