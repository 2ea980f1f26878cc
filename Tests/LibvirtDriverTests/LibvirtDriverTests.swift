import Compute
import Configuration
import Foundation
import Libvirt
import Model
import Testing
import XML

@testable import LibvirtDriver

@Suite("Driver over libvirt's test driver")
struct LibvirtDriverTests {
    private let folder: TemporaryFolder
    private let host: LibvirtHost
    private let connection: LibvirtConnection
    private let driver: LibvirtDriver
    private let content = (0..<3_000).map { UInt8(truncatingIfNeeded: $0) }

    private static let foreignID = InstanceID("11111111-2222-4333-8444-555555555555")

    private static let world = """
        <node>
          <domain type='test'><name>foreign</name><uuid>\(foreignID)</uuid><memory>8192</memory><os><type>hvm</type></os></domain>
          <network><name>default</name><bridge name='virbr9'/><forward/>
            <ip address='10.9.0.1' netmask='255.255.255.0'><dhcp><range start='10.9.0.2' end='10.9.0.4'/></dhcp></ip>
          </network>
        </node>
        """

    init() async throws {
        folder = try TemporaryFolder()
        let node = try folder.write(Array(Self.world.utf8), to: "node.xml")
        host = LibvirtHost(uri: "test://" + node)
        driver = try Self.makeDriver(folder, host)
        try await driver.start()
        connection = try await host.connection(.control)
    }

    private static func makeDriver(
        _ folder: TemporaryFolder, _ host: LibvirtHost, _ values: [String: String] = [:]
    ) throws -> LibvirtDriver {
        LibvirtDriver(
            configuration: try Sample.configuration(folder, values), host: host, domainType: "test",
            clock: ContinuousClock(), soleRole: .control)
    }

    private func guest(_ instance: Instance = Sample.instance()) async throws -> GuestSpecification {
        Sample.guest(instance, image: Sample.image(content), interfaces: try await driver.plugNetwork(instance))
    }

    private func build(_ instance: Instance = Sample.instance()) async throws -> GuestSpecification {
        let guest = try await guest(instance)
        try await driver.prepareImage(guest.image, for: instance.flavor) { [content] in try await $1(content) }
        try await driver.createDisks(guest)
        try await driver.writeConfigDrive(guest, secrets: ConfigDriveSecrets())
        try await driver.define(guest)
        try await driver.powerOn(instance.id)
        return guest
    }

    private func instancesFolder() -> String { folder.path + "/instances" }

    @Test("A guest is built, stopped, started and removed; everything twice; nothing stays")
    func life() async throws {
        let id = Sample.id
        for _ in 0..<2 { _ = try await build() }
        #expect(
            try await driver.observe(id)
                == GuestObservation(id: id, name: "instance-0000002a", powerState: .running, isOurs: true))
        #expect(try mode(instancesFolder() + "/\(id)/disk.config") == 0o600)
        for _ in 0..<2 { try await driver.powerOff(id, grace: .zero) }
        #expect(try await driver.observe(id)?.powerState == .shutdown)
        try await driver.powerOn(id)
        #expect(try await driver.observe(id)?.powerState == .running)
        try await driver.powerOff(id, grace: .seconds(60))
        for _ in 0..<2 {
            try await driver.undefine(id)
            try await driver.removeDisks(id)
            try await driver.unplugNetwork(id, [])
            try await driver.powerOff(id, grace: .zero)
        }
        #expect(try await driver.observe(id) == nil)
        #expect(!FileManager.default.fileExists(atPath: instancesFolder() + "/\(id)"))
        #expect(try await !connection.networkXML("default").contains("<host"))
        await driver.stop()
    }

    @Test("Disks are overlays of the flavor's size over the base; with no size, of the image's")
    func disks() async throws {
        for (root, expected) in [(1, Int64(1) << 30), (0, 3_072)] {
            let instance = Sample.instance(flavor: Sample.flavor(root: root))
            let guest = Sample.guest(instance, image: Sample.image(content))
            try await driver.prepareImage(guest.image, for: instance.flavor) { [content] in try await $1(content) }
            try await driver.createDisks(guest)
            let header = try #require(try Files.read(instancesFolder() + "/\(Sample.id)/disk", limit: 1_024))
            #expect(header[24..<32].reduce(0) { $0 << 8 | Int64($1) } == expected)
            #expect(String(decoding: header, as: UTF8.self).contains("/instances/_base/" + guest.image.sha512))
            try await driver.removeDisks(Sample.id)
        }
    }

    @Test("An image larger than the flavor's disk is refused before a byte is fetched, with both sizes")
    func tooLarge() async throws {
        let image = Sample.image(content, virtualSize: 3 << 30 - 512)
        await #expect(
            throws: Failure(.imageUnacceptable, "image i1 needs 3 GiB, flavor m1.nano has 1 GiB")
        ) {
            try await driver.prepareImage(image, for: Sample.flavor()) { _, _ in Issue.record("fetched") }
        }
    }

    @Test("Addresses are reserved one by one, found again, and given back")
    func addresses() async throws {
        let ids = (1...4).map { InstanceID("00000000-0000-4000-8000-00000000000\($0)") }
        let plugged = try await withThrowingTaskGroup(of: [NetworkInterface].self) { group in
            for id in ids.prefix(3) { group.addTask { [driver] in try await driver.plugNetwork(Sample.instance(id)) } }
            return try await group.reduce(into: []) { $0 += $1 }
        }
        #expect(Set(plugged.compactMap(\.ipv4Address)) == ["10.9.0.2", "10.9.0.3", "10.9.0.4"])
        #expect(Set(plugged.map(\.macAddress)).count == 3)
        let again = try await driver.plugNetwork(Sample.instance(ids[0]))
        #expect(plugged.contains(again[0]))
        let full = await #expect(throws: Failure.self) { try await driver.plugNetwork(Sample.instance(ids[3])) }
        #expect(full?.kind == .networkUnavailable)
        // After a crash there may be no record of what was reserved.
        try await driver.unplugNetwork(ids[0], [])
        #expect(try await driver.plugNetwork(Sample.instance(ids[3])).first?.ipv4Address == again[0].ipv4Address)
    }

    @Test("An instance that wants no network gets none; a bridge gives a MAC and no address")
    func otherNetworks() async throws {
        var instance = Sample.instance()
        instance.networks = .none
        #expect(try await driver.plugNetwork(instance).isEmpty)
        let bridged = try Self.makeDriver(folder, host, ["compute.network": "bridge:br0"])
        let interfaces = try await bridged.plugNetwork(Sample.instance())
        #expect(interfaces.map(\.network) == ["br0"] && interfaces[0].ipv4Address == nil)
        #expect(try await bridged.plugNetwork(Sample.instance()) == interfaces)
    }

    @Test("A network that is missing or does not run is named")
    func missingNetwork() async throws {
        let other = try Self.makeDriver(folder, host, ["compute.network": "libvirt:nowhere"])
        let missing = await #expect(throws: Failure.self) { try await other.plugNetwork(Sample.instance()) }
        #expect(missing?.kind == .networkUnavailable && missing?.message.contains("'nowhere'") == true)
        try await other.unplugNetwork(Sample.id, [])
        try await connection.destroyNetwork("default")
        let inactive = await #expect(throws: Failure.self) { try await driver.plugNetwork(Sample.instance()) }
        #expect(inactive?.message == "the libvirt network 'default' is not active")
    }

    @Test("A domain that Apus did not make is seen and never touched")
    func foreign() async throws {
        let id = Self.foreignID
        let before = try await connection.xml(of: .uuid(id.rawValue))
        let seen = try await driver.guests()
        #expect(seen.map(\.id) == [id] && seen.map(\.name) == ["foreign"])
        #expect(seen.map(\.powerState) == [.running] && seen.map(\.isOurs) == [false])
        #expect(seen.first?.size == Resources(vcpus: 1, memoryMiB: 8, diskGiB: 0))
        let guest = try await guest(Sample.instance(id))
        let actions: [@Sendable () async throws -> Void] = [
            { [driver] in try await driver.define(guest) }, { [driver] in try await driver.powerOn(id) },
            { [driver] in try await driver.powerOff(id, grace: .seconds(1)) },
            { [driver] in _ = try await driver.softReboot(id, grace: .seconds(1)) },
            { [driver] in try await driver.undefine(id) },
        ]
        for action in actions {
            let error = await #expect(throws: Failure.self) { try await action() }
            #expect(error?.kind == .conflict)
        }
        #expect(try await connection.xml(of: .uuid(id.rawValue)) == before)
    }

    @Test("A foreign domain of the same name is a conflict")
    func foreignName() async throws {
        _ = try await connection.define(
            xml:
                "<domain type='test'><name>instance-0000002a</name><memory>8192</memory><os><type>hvm</type></os></domain>",
            validate: false)
        let guest = try await guest()
        let error = await #expect(throws: Failure.self) { try await driver.define(guest) }
        #expect(error?.kind == .conflict && error?.message.contains("instance-0000002a") == true)
    }

    @Test("What libvirt refuses is a failure that another host may not have, with libvirt's words")
    func refused() async throws {
        var guest = try await guest()
        guest.interfaces[0].macAddress = "not a mac"
        let error = await #expect(throws: Failure.self) { try await driver.define(guest) }
        #expect(error?.kind == .hypervisor && error?.isRetriable == true)
        #expect(error?.message.contains("not a mac") == true)
        #expect(try await driver.observe(Sample.id) == nil)
    }

    @Test("A running guest's definition is not removed")
    func undefineRunning() async throws {
        _ = try await build()
        let error = await #expect(throws: Failure.self) { try await driver.undefine(Sample.id) }
        #expect(error?.kind == .hypervisor)
        #expect(try await driver.observe(Sample.id)?.powerState == .running)
    }

    @Test("Events begin with a comparison of everything, then name what changed")
    func events() async throws {
        var events = driver.events.makeAsyncIterator()
        #expect(await events.next() == .resynchronise)
        try await connection.suspend(.uuid(Self.foreignID.rawValue))
        #expect(await events.next() == .changed(Self.foreignID))
    }

    @Test("A definition that changed behind our back is looked at again")
    func redefined() async throws {
        var events = driver.events.makeAsyncIterator()
        #expect(await events.next() == .resynchronise)
        let id = Self.foreignID
        #expect(try await driver.observe(id)?.isOurs == false)
        let marked = try await connection.xml(of: .uuid(id.rawValue), options: .inactive).replacing(
            "</uuid>", with: "</uuid><metadata><apus:instance xmlns:apus='\(DomainMetadata.namespace)'/></metadata>")
        _ = try await connection.define(xml: marked, validate: false)
        #expect(await events.next() == .changed(id))
        #expect(try await driver.observe(id)?.isOurs == true)
    }

    @Test("The console is the end of the log and of the ones before it")
    func console() async throws {
        let path = instancesFolder() + "/\(Sample.id)"
        #expect(try await driver.consoleLog(Sample.id, limit: 100) == [])
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        try Data("tick 3\n".utf8).write(to: URL(fileURLWithPath: path + "/console.log"))
        try Data("tick 1\ntick 2\n".utf8).write(to: URL(fileURLWithPath: path + "/console.log.0"))
        #expect(try await driver.consoleLog(Sample.id, limit: 100) == Array("tick 1\ntick 2\ntick 3\n".utf8))
        #expect(try await driver.consoleLog(Sample.id, limit: 9) == Array("2\ntick 3\n".utf8))
        #expect(try await driver.consoleLog(Sample.id, limit: 2) == Array("3\n".utf8))
    }

    @Test(
        "No id leads out of the instances' folder",
        arguments: ["../../etc", "", "a/b", Sample.id.rawValue.uppercased()])
    func hostileID(text: String) async throws {
        let error = await #expect(throws: Failure.self) { try await driver.removeDisks(InstanceID(text)) }
        #expect(error?.kind == .invalidParameters)
    }

    @Test("The host's capacity is what libvirt and the file system say")
    func capacity() async throws {
        let capacity = try await driver.capacity()
        let node = try await connection.nodeInfo()
        #expect(capacity.total.vcpus == node.cpus)
        #expect(capacity.total.memoryMiB == Int(node.memoryKiB / 1_024))
        #expect(capacity.hypervisorType == "TEST")
        #expect(capacity.total.diskGiB > 0)
        let before = try #require(capacity.diskAvailableLeastGiB)
        // A sparse disk of 1 GiB takes its GiB from what is available at least.
        _ = try await build()
        let after = try #require(try await driver.capacity().diskAvailableLeastGiB)
        #expect(after < before)
    }

    @Test("Without libvirt the driver does not start, and says why")
    func unreachable() async throws {
        let configuration = try Sample.configuration(
            folder, ["libvirt.connection_uri": "qemu+unix:///system?socket=\(folder.path)/none"])
        let other = LibvirtDriver(
            configuration: configuration, host: LibvirtHost(uri: configuration[LibvirtDriverOptions.connectionURI]),
            domainType: "test", clock: ContinuousClock(), patience: .milliseconds(50))
        let error = await #expect(throws: Failure.self) { try await other.start() }
        #expect(error?.kind == .unreachable && error?.isRetriable == true)
        await #expect(throws: Failure.self) { try await other.powerOn(Sample.id) }
        await other.stop()
    }

    @Test("QEMU's user may pass our folders above the disks, and not look into them")
    func passing() async throws {
        let closed = try TemporaryFolder()
        try FileManager.default.setAttributes([.posixPermissions: 0o700], ofItemAtPath: closed.path)
        let other = try Self.makeDriver(closed, host)
        try await other.start()
        #expect(try mode(closed.path) == 0o711)
        #expect(try mode(closed.path + "/instances") == 0o711)
        #expect(try mode(closed.path + "/instances/_base") == 0o711)
        await other.stop()
    }

    @Test("The disks of a running guest are not removed")
    func disksInUse() async throws {
        _ = try await build()
        let error = await #expect(throws: Failure.self) { try await driver.removeDisks(Sample.id) }
        #expect(error?.kind == .storage)
        #expect(FileManager.default.fileExists(atPath: instancesFolder() + "/\(Sample.id)/disk"))
    }
}
