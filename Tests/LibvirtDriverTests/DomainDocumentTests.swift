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
        let folder = try InstanceFolder(guest.instance.id, in: "/var/lib/apus/instances")
        return DomainDocument.make(guest, folder: folder, base: "/var/lib/apus/instances/_base/ab12", settings)
    }

    @Test("The whole document of a guest on KVM")
    func kvm() throws {
        let guest = Sample.guest(Sample.instance(name: "Ünï <web> & \"co\" 'x'"))
        let text = try document(guest).serialized()
        #expect(text == Self.golden)
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

    @Test("libvirt's schema and its test driver accept the document and keep our mark", arguments: ["kvm", "qemu"])
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

    private static let golden = """
        <domain type="kvm">
          <name>instance-0000002a</name>
          <uuid>6ba7b810-9dad-41d1-80b4-00c04fd430c8</uuid>
          <metadata>
            <apus:instance xmlns:apus="https://apus.dev/xmlns/libvirt/1.0" version="1"/>
            <nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1">
              <nova:package version="1.2.3"/>
              <nova:name>Ünï &lt;web&gt; &amp; "co" 'x'</nova:name>
              <nova:creationTime>2023-11-14 22:13:20</nova:creationTime>
              <nova:flavor name="m1.nano" id="1">
                <nova:memory>128</nova:memory>
                <nova:disk>1</nova:disk>
                <nova:swap>0</nova:swap>
                <nova:ephemeral>0</nova:ephemeral>
                <nova:vcpus>2</nova:vcpus>
                <nova:extraSpecs>
                  <nova:extraSpec name="a">1</nova:extraSpec>
                  <nova:extraSpec name="hw:mem_page_size">small</nova:extraSpec>
                </nova:extraSpecs>
              </nova:flavor>
              <nova:owner>
                <nova:user uuid="u1">u1</nova:user>
                <nova:project uuid="p1">p1</nova:project>
              </nova:owner>
              <nova:root type="image" uuid="i1"/>
              <nova:ports>
                <nova:port mac="fa:16:3e:01:02:03">
                  <nova:ip type="fixed" address="192.168.122.7" ipVersion="4"/>
                </nova:port>
              </nova:ports>
            </nova:instance>
          </metadata>
          <memory unit="KiB">131072</memory>
          <vcpu>2</vcpu>
          <sysinfo type="smbios">
            <system>
              <entry name="manufacturer">OpenStack Foundation</entry>
              <entry name="product">OpenStack Nova</entry>
              <entry name="version">Apus 1.2.3</entry>
              <entry name="serial">6ba7b810-9dad-41d1-80b4-00c04fd430c8</entry>
              <entry name="uuid">6ba7b810-9dad-41d1-80b4-00c04fd430c8</entry>
              <entry name="family">Virtual Machine</entry>
            </system>
          </sysinfo>
          <os>
            <type arch="x86_64" machine="pc">hvm</type>
            <boot dev="hd"/>
            <smbios mode="sysinfo"/>
          </os>
          <features>
            <acpi/>
            <apic/>
          </features>
          <cpu mode="host-model" check="partial">
            <topology sockets="2" cores="1" threads="1"/>
          </cpu>
          <clock offset="utc">
            <timer name="pit" tickpolicy="delay"/>
            <timer name="rtc" tickpolicy="catchup"/>
            <timer name="hpet" present="no"/>
          </clock>
          <on_poweroff>destroy</on_poweroff>
          <on_reboot>restart</on_reboot>
          <on_crash>destroy</on_crash>
          <devices>
            <disk type="file" device="disk">
              <driver name="qemu" type="qcow2" cache="none"/>
              <source file="/var/lib/apus/instances/6ba7b810-9dad-41d1-80b4-00c04fd430c8/disk"/>
              <backingStore type="file">
                <format type="raw"/>
                <source file="/var/lib/apus/instances/_base/ab12"/>
                <backingStore/>
              </backingStore>
              <target dev="vda" bus="virtio"/>
            </disk>
            <disk type="file" device="cdrom">
              <driver name="qemu" type="raw"/>
              <source file="/var/lib/apus/instances/6ba7b810-9dad-41d1-80b4-00c04fd430c8/disk.config"/>
              <target dev="hda" bus="ide"/>
              <readonly/>
            </disk>
            <interface type="network">
              <mac address="fa:16:3e:01:02:03"/>
              <source network="default"/>
              <model type="virtio"/>
            </interface>
            <serial type="pty">
              <log file="/var/lib/apus/instances/6ba7b810-9dad-41d1-80b4-00c04fd430c8/console.log" append="off"/>
              <target port="0"/>
            </serial>
            <controller type="usb" index="0" model="none"/>
            <rng model="virtio">
              <backend model="random">/dev/urandom</backend>
            </rng>
            <memballoon model="virtio">
              <stats period="10"/>
            </memballoon>
          </devices>
        </domain>

        """
}
