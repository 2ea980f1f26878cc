import Compute
import Libvirt
import Model
import Testing
import XML

@testable import LibvirtDriver

@Suite("Domain XML")
struct DomainDocumentTests {
    private func document(
        _ guest: GuestSpecification, _ settings: DomainSettings = Sample.settings()
    ) throws -> XMLNode {
        try Sample.document(guest, settings)
    }

    @Test("Without KVM Intel's IOMMU goes without extended interrupts, which it would not start with")
    func emulatedIOMMU() throws {
        let guest = Sample.guest(specs: ["hw:viommu_model": "intel"], properties: ["hw_machine_type": "q35"])
        let driver = try document(guest, Sample.settings(virtType: "qemu")).first("devices/iommu/driver")
        #expect(driver?["eim"] == nil)
        #expect(driver?["intremap"] == "on")
    }

    @Test("What people wrote is escaped")
    func escaping() throws {
        let guest = Sample.guest(Sample.instance(name: "Ünï <web> & \"co\" 'x'"))
        let text = try document(guest).serialized()
        #expect(text.contains("<nova:name>Ünï &lt;web&gt; &amp; \"co\" 'x'</nova:name>"))
    }

    @Test("Emulated guests have neither KVM's timers nor a CPU model, and without period no balloon")
    func emulated() throws {
        var settings = Sample.settings(virtType: "qemu")
        settings.memoryStatisticsPeriod = 0
        let domain = try document(Sample.guest(), settings)
        #expect(domain["type"] == "qemu")
        #expect(domain.first("cpu")?["mode"] == nil)
        #expect(domain.first("clock")?.children == [])
        #expect(domain.first("devices/memballoon")?["model"] == "none")
    }

    @Test("A guest without NICs has none; on a bridge it is plugged there")
    func interfaces() throws {
        #expect(try document(Sample.guest(interfaces: [])).all("devices/interface").isEmpty)
        var settings = Sample.settings()
        settings.network = .bridge("br0")
        let bridged = NetworkInterface(network: "br0", macAddress: "fa:16:3e:01:02:03")
        let nic = try #require(try document(Sample.guest(interfaces: [bridged]), settings).first("devices/interface"))
        #expect(nic["type"] == "bridge")
        #expect(nic.first("source")?["bridge"] == "br0")
    }

    @Test("A NIC stays where it was plugged when the configured network changes")
    func otherNetwork() throws {
        var settings = Sample.settings()
        settings.network = .bridge("br0")
        let nic = try document(Sample.guest(), settings).first("devices/interface")
        #expect(nic?["type"] == "network")
        #expect(nic?.first("source")?["network"] == "default")
    }

    @Test("What XML cannot hold is an error, not another name")
    func controlCharacter() throws {
        let guest = Sample.guest(Sample.instance(name: "a\u{1}b"))
        #expect(throws: XMLError.self) { try document(guest).serialized() }
    }

    // One after the other: two threads that parse the first schemas of a process at once fail in libxml2.
    @Test(
        "libvirt's schema and its test driver accept the document and keep our mark", .serialized,
        arguments: ["kvm", "qemu"])
    func accepted(virtType: String) async throws {
        let folder = try TemporaryFolder()
        let node = try folder.write(Array("<node/>".utf8), to: "node.xml")
        let connection = try await LibvirtConnection.open(uri: "test://" + node)
        var settings = Sample.settings(virtType: virtType)
        settings.virtType = "test"
        // The test driver knows one architecture and one machine.
        (settings.architecture, settings.machineType) = ("i686", "pc")
        let guest = Sample.guest(Sample.instance(name: "Ünï <web> & \"co\" 'x'"))
        let made = try await connection.define(xml: try document(guest, settings).serialized(), validate: true)
        #expect(made.uuid == Sample.id.rawValue)
        let read = try XMLNode(parsing: try await connection.xml(of: .uuid(made.uuid), options: .inactive))
        #expect(DomainMetadata.isOurs(read))
        #expect(read.first("metadata/nova:instance/nova:name")?.text == "Ünï <web> & \"co\" 'x'")
        await connection.close()
    }

    @Test("A domain without our mark is not ours, whatever else its metadata says")
    func foreign() throws {
        let nova =
            "<domain><metadata><nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'/></metadata></domain>"
        #expect(!DomainMetadata.isOurs(try XMLNode(parsing: nova)))
        #expect(!DomainMetadata.isOurs(try XMLNode(parsing: "<domain/>")))
    }
}
