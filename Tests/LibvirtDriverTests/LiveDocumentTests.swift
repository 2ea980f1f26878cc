import Compute
import Model
import Testing
import XML

@testable import LibvirtDriver

@Suite("The definition of a guest that comes from another host")
struct LiveDocumentTests {
    private static let there = "/srv/there/instances/6ba7b810-9dad-41d1-80b4-00c04fd430c8"
    private static let here = "/var/lib/apus/instances/6ba7b810-9dad-41d1-80b4-00c04fd430c8"
    private static let base = "/var/lib/apus/instances/_base/ab12"

    /// As libvirt at the source gives it, with `devices` beside those that every guest has.
    private static func offer(_ devices: String = "", vcpu: String = "<vcpu placement='static'>2</vcpu>") -> String {
        """
        <domain type='kvm' id='7'>
          <name>instance-0000002a</name>
          <uuid>6ba7b810-9dad-41d1-80b4-00c04fd430c8</uuid>
          <memory unit='KiB'>131072</memory>
          \(vcpu)
          <cputune><shares>1024</shares><vcpupin vcpu='0' cpuset='9'/></cputune>
          <numatune><memory mode='strict' nodeset='3'/></numatune>
          <cpu mode='custom' match='exact'><model>Nehalem</model></cpu>
          <devices>
            <emulator>/usr/bin/qemu-system-x86_64</emulator>
            <disk type='file' device='disk'>
              <driver name='qemu' type='qcow2' cache='none'/>
              <source file='\(there)/disk' index='2'/>
              <backingStore type='file' index='3'>
                <format type='raw'/><source file='/srv/there/instances/_base/ff00'/><backingStore/>
              </backingStore>
              <target dev='vda' bus='virtio'/>
              <alias name='virtio-disk0'/>
              <address type='pci' domain='0x0000' bus='0x00' slot='0x04' function='0x0'/>
            </disk>
            <interface type='bridge'>
              <mac address='FA:16:3E:01:02:03'/>
              <source bridge='br-there'/>
              <target dev='vnet12'/>
              <model type='virtio'/>
              <address type='pci' domain='0x0000' bus='0x00' slot='0x03' function='0x0'/>
            </interface>
            <serial type='pty'>
              <source path='/dev/pts/3'/>
              <log file='\(there)/console.log' append='off'/>
              <target type='isa-serial' port='0'/>
            </serial>
            <console type='pty'>
              <log file='\(there)/console.log' append='off'/>
              <target type='serial' port='0'/>
            </console>
            <channel type='unix'>
              <source mode='bind' path='/run/libvirt/qemu/channel/7-instance/org.qemu.guest_agent.0'/>
              <target type='virtio' name='org.qemu.guest_agent.0'/>
            </channel>
            <channel type='spicevmc'><target type='virtio' name='com.redhat.spice.0'/></channel>
            <graphics type='vnc' port='5907' autoport='yes' listen='10.0.0.1'>
              <listen type='address' address='10.0.0.1'/>
            </graphics>
            <video><model type='virtio'/></video>
            \(devices)
          </devices>
          <seclabel type='dynamic' model='apparmor'><label>libvirt-6ba7</label></seclabel>
        </domain>
        """
    }

    private static func disk(
        _ path: String, format: String = "qcow2", type: String = "file", target: String = "vdb"
    ) -> String {
        """
        <disk type='\(type)' device='disk'><driver name='qemu' type='\(format)'/><source file='\(path)'/>\
        <target dev='\(target)' bus='virtio'/></disk>
        """
    }

    private static let disks = [
        "disk": GuestDisk(role: .root, path: here + "/disk", format: .qcow2, backing: base, isPreallocated: false),
        "disk.eph0": GuestDisk(
            role: .ephemeral(0), path: here + "/disk.eph0", format: .raw, backing: nil, isPreallocated: false),
    ]

    private func make(
        _ text: String = offer(), own: String = "<domain/>", interfaces: [NetworkInterface] = [Sample.interface],
        binding: NetworkBinding = .libvirt("default"), vncAddress: String? = "192.0.2.4"
    ) throws -> XMLNode {
        try LiveDocument(
            offered: try XMLNode(parsing: text),
            folder: try InstanceFolder(Sample.id, in: "/var/lib/apus/instances"), disks: Self.disks,
            own: try XMLNode(parsing: own), interfaces: interfaces, binding: binding, vncAddress: vncAddress
        ).make()
    }

    private func refusal(_ text: String, interfaces: [NetworkInterface] = [Sample.interface]) -> Failure? {
        do {
            _ = try make(text, interfaces: interfaces)
        } catch {
            return error as? Failure
        }
        return nil
    }

    @Test("What the guest sees stays as it is, and nothing names the other host's files or addresses")
    func whole() throws {
        let made = try make()
        let text = try made.serialized()
        for trace in ["there", "10.0.0.1", "5907", "vnet12", "/run/libvirt", "libvirt-6ba7", "index="] {
            #expect(!text.contains(trace), "\(trace)")
        }
        #expect(made["type"] == "kvm" && made["id"] == nil)
        let offered = try XMLNode(parsing: Self.offer())
        for path in ["name", "uuid", "memory", "vcpu", "cpu", "devices/video"] {
            #expect(made.first(path) == offered.first(path), "\(path)")
        }
        for path in ["devices/disk", "devices/interface"] {
            #expect(made.first(path + "/address") == offered.first(path + "/address"), "\(path)")
        }
        // In the guest's order, of which its places on the buses follow.
        let names = offered.first("devices")?.children.map(\.name).filter { $0 != "emulator" }
        #expect(made.first("devices")?.children.map(\.name) == names)
    }

    @Test("A disk is this host's file, with the whole of what it stands on")
    func disks() throws {
        let text = Self.offer(
            Self.disk(Self.there + "/disk.eph0", format: "raw")
                + Self.disk(Self.there + "/disk.config", format: "raw", target: "sda"))
        let found = try make(text).all("devices/disk")
        let files = ["disk", "disk.eph0", "disk.config"].map { Self.here + "/" + $0 }
        #expect(found.map { $0.first("source")?["file"] } == files)
        #expect(found.map { $0.all("source").count } == [1, 1, 1])
        #expect(found.map { $0.first("target")?["dev"] } == ["vda", "vdb", "sda"])
        #expect(found.map { $0.all("backingStore").count } == [1, 1, 0])
        let backing = try #require(found.first?.first("backingStore"))
        #expect(backing["type"] == "file" && backing.first("format")?["type"] == "raw")
        #expect(backing.first("source")?["file"] == Self.base)
        #expect(backing.first("backingStore") == XMLNode("backingStore"))
        #expect(found.dropFirst().first?.first("backingStore") == XMLNode("backingStore"))
        #expect(found.first?.first("driver")?["cache"] == "none")
    }

    @Test(
        "A NIC is plugged where this host plugs it",
        arguments: [
            (NetworkBinding.libvirt("default"), "network", "default"), (.bridge("default"), "bridge", "default"),
            // Plugged before the configured network changed: its address tells that libvirt reserved it.
            (.bridge("br0"), "network", "default"),
        ])
    func nics(binding: NetworkBinding, type: String, name: String) throws {
        let nic = try #require(try make(binding: binding).first("devices/interface"))
        #expect(nic["type"] == type)
        #expect(nic.all("source") == [XMLNode("source", [type: name])])
        #expect(nic.first("target") == nil)
        #expect(nic.first("mac")?["address"] == "FA:16:3E:01:02:03" && nic.first("model")?["type"] == "virtio")
    }

    @Test("The serial ports go on writing into this host's log, and libvirt chooses the channels' sockets")
    func ports() throws {
        let devices = try #require(try make().first("devices"))
        for port in ["serial", "console"] {
            let log = try #require(devices.first(port + "/log"))
            #expect(log["file"] == Self.here + "/console.log" && log["append"] == "on", "\(port)")
        }
        let channels = devices.all("channel")
        #expect(channels.map { $0["type"] } == ["unix", "spicevmc"])
        #expect(channels.map { $0.first("source") } == [nil, nil])
        #expect(
            channels.map { $0.first("target")?["name"] } == ["org.qemu.guest_agent.0", "com.redhat.spice.0"])
    }

    @Test("The screen is at an address of this host, at a port that is free here", arguments: ["192.0.2.4", nil])
    func graphics(address: String?) throws {
        let graphics = try #require(try make(vncAddress: address).first("devices/graphics"))
        #expect(graphics["port"] == "-1" && graphics["autoport"] == "yes" && graphics["listen"] == address)
        #expect(graphics.children.isEmpty)
    }

    @Test("The guest is on the processors and memory that this host gives it")
    func placement() throws {
        let own = """
            <domain><vcpu cpuset='4-5'>2</vcpu><cputune><vcpupin vcpu='0' cpuset='4'/></cputune>\
            <numatune><memory mode='strict' nodeset='1'/></numatune></domain>
            """
        let placed = try make(own: own)
        #expect(placed.first("vcpu")?["cpuset"] == "4-5" && placed.first("vcpu")?.text == "2")
        #expect(placed.all("cputune").map { $0.first("vcpupin")?["cpuset"] } == ["4"])
        #expect(placed.all("numatune").map { $0.first("memory")?["nodeset"] } == ["1"])
        let pinned = Self.offer(vcpu: "<vcpu placement='static' cpuset='9'>2</vcpu>")
        let free = try make(pinned)
        #expect(free.first("vcpu")?["cpuset"] == nil)
        #expect(free.first("cputune") == nil && free.first("numatune") == nil && free.first("seclabel") == nil)
    }

    @Test(
        "What is bound to its host does not come",
        arguments: ["hostdev", "tpm", "filesystem", "shmem", "redirdev", "smartcard"])
    func devices(kind: String) {
        let failure = refusal(Self.offer("<\(kind)/>"))
        #expect(failure?.kind == .conflict)
        #expect(failure?.message.contains("'\(kind)'") == true)
    }

    @Test(
        "A disk that the guest is not to have here does not come, nor one of another format or kind",
        arguments: [
            disk(there + "/disk.eph1"), disk("/etc/shadow", format: "raw"), disk(there + "/disk/..", format: "raw"),
            disk(there + "/.."), disk(there + "/disk.rescue"), disk(there + "/disk.info", format: "raw"), disk(""),
            disk("/"), disk(there + "/disk.eph0"), disk(there + "/disk", format: "raw"),
            disk(there + "/disk", format: "vmdk"), disk(there + "/disk", type: "block"),
            disk(there + "/disk", type: "network"),
            "<disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>",
            "<disk type='file' device='disk'><source file='\(there)/disk'/><target dev='vdb'/></disk>",
        ])
    func foreignDisks(disk: String) {
        #expect(refusal(Self.offer(disk))?.kind == .conflict)
    }

    @Test("A NIC that the guest is not to have here does not come")
    func foreignNICs() {
        let other = NetworkInterface(network: "default", macAddress: "fa:16:3e:ff:ff:ff")
        #expect(refusal(Self.offer(), interfaces: [other])?.kind == .conflict)
        #expect(refusal(Self.offer(), interfaces: [])?.kind == .conflict)
        let nameless = Self.offer("<interface type='bridge'><source bridge='br0'/></interface>")
        #expect(refusal(nameless)?.kind == .conflict)
    }

    @Test("What is no guest's definition is refused", arguments: ["<network/>", "<domain type='kvm'/>"])
    func noGuest(text: String) {
        #expect(refusal(text)?.kind == .invalidParameters)
    }

    @Test(
        "A path of the other host's choice reaches this host's hypervisor nowhere",
        arguments: [
            "<serial type='file'><source path='/etc/evil'/><target port='1'/></serial>",
            "<serial type='dev'><source path='/etc/evil'/><target port='1'/></serial>",
            "<console type='file'><source path='/etc/evil'/><target type='virtio' port='1'/></console>",
            "<parallel type='file'><source path='/etc/evil'/><target port='0'/></parallel>",
            "<channel type='file'><source path='/etc/evil'/><target type='virtio' name='a'/></channel>",
            "<rng model='virtio'><backend model='random'>/etc/evil</backend></rng>",
            "<emulator>/etc/evil</emulator>",
            "<interface type='ethernet'><mac address='fa:16:3e:01:02:03'/><script path='/etc/evil'/></interface>",
        ])
    func foreignPaths(device: String) throws {
        guard refusal(Self.offer(device)) == nil else { return }
        #expect(try !make(Self.offer(device)).serialized().contains("/etc/evil"))
    }

    @Test("Arguments for the other host's emulator do not come")
    func arguments() throws {
        let text = Self.offer().replacing(
            "<devices>",
            with: """
                <qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\
                <qemu:arg value='/etc/evil'/></qemu:commandline><devices>
                """)
        guard refusal(text) == nil else { return }
        #expect(try !make(text).serialized().contains("/etc/evil"))
    }

    @Test("A config drive is raw: of another format its bytes would name files of this host")
    func configDrive() {
        let disk = Self.disk(Self.there + "/disk.config", format: "qcow2", target: "sda")
        #expect(refusal(Self.offer(disk))?.kind == .conflict)
    }
}
