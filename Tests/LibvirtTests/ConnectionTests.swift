import Foundation
import Testing

@testable import Libvirt

@Suite("Connections", .timeLimit(.minutes(1)))
struct ConnectionTests {
    @Test("A hypervisor that cannot be reached is a lost connection")
    func unreachable() async {
        await error(.connectionLost) {
            _ = try await LibvirtConnection.open(uri: "qemu+unix:///system?socket=/nonexistent/apus.sock")
        }
        await error(.connectionLost) { _ = try await LibvirtConnection.open(uri: "nosuchdriver:///system") }
    }

    @Test("A call that writes to a daemon that has died does not end the process")
    func brokenPipe() async throws {
        let connection = try await TestHypervisor().connect()
        #expect(await connection.close() == .closed)
        var action = sigaction()
        #expect(sigaction(SIGPIPE, nil, &action) == 0)
        #expect(action.__sigaction_handler.sa_handler != nil)
    }

    @Test("Nothing is left in libvirt after a close, with subscriptions too; later calls say that it is closed")
    func close() async throws {
        let connection = try await TestHypervisor().connect()
        let recorder = Recorder()
        try await connection.subscribe(recorder.record)
        #expect(await connection.close() == .closed)
        #expect(await connection.close() == .closed)
        await error(.connectionLost) { _ = try await connection.hostname() }
    }

    @Test("Events arrive in order, with what tells one stop from another")
    func events() async throws {
        let connection = try await TestHypervisor().connect()
        let recorder = Recorder()
        try await connection.subscribe(recorder.record)
        let uuid = try await connection.define(xml: domainXML(name: "one")).uuid
        try await connection.start(.uuid(uuid))
        try await connection.suspend(.uuid(uuid))
        try await connection.resume(.uuid(uuid))
        try await connection.destroy(.uuid(uuid))
        try await connection.undefine(.uuid(uuid))
        let expected: [(DomainEvent.Kind, DomainEvent.Detail)] = [
            (.defined, .added), (.started, .booted), (.suspended, .paused), (.resumed, .unpaused),
            (.stopped, .destroyed), (.undefined, .removed),
        ]
        #expect(
            await recorder.next(expected.count)
                == expected.map { .lifecycle(DomainEvent(uuid: uuid, name: "one", kind: $0.0, detail: $0.1)) })
        #expect(await connection.close() == .closed)
    }

    @Test("Events and details that are not known keep their numbers")
    func unknownEvents() {
        #expect(DomainEvent(uuid: "", name: "", event: 5, detail: 3).detail == .migrated)
        #expect(DomainEvent(uuid: "", name: "", event: 5, detail: 40).detail == .other(40))
        #expect(DomainEvent(uuid: "", name: "", event: 40, detail: 1).kind == .other(40))
        #expect(DomainEvent(uuid: "", name: "", event: -1, detail: -1).detail == .other(-1))
    }

    @Test("A read-only connection changes nothing")
    func readOnly() async throws {
        let connection = try await TestHypervisor().connect { $0.readOnly = true }
        await error(.denied) { _ = try await connection.define(xml: domainXML(name: "one")) }
        #expect(try await connection.domains() == [])
        #expect(await connection.close() == .closed)
    }

    @Test("The host tells what it is")
    func node() async throws {
        let connection = try await TestHypervisor(
            "<cpu><mhz>2000</mhz><model>i986</model><active>6</active>"
                + "<nodes>1</nodes><sockets>2</sockets><cores>3</cores><threads>1</threads></cpu>"
                + "<memory>4194304</memory>"
        ).connect()
        let info = try await connection.nodeInfo()
        #expect(info.model == "i986")
        #expect(info.memoryKiB == 4_194_304)
        #expect((info.cpus, info.socketsPerNode, info.coresPerSocket, info.threadsPerCore) == (6, 2, 3, 1))
        #expect(try await connection.hypervisorType() == "TEST")
        #expect(try await connection.libvirtVersion() >= PackedVersion(9, 0, 0))
        #expect(try await !connection.hostname().isEmpty)
        let capabilities = try await connection.capabilities()
        #expect(capabilities.contains("<capabilities>"))
        #expect(try await connection.capabilities() == capabilities)
        #expect(await connection.close() == .closed)
    }

    @Test("A version reads as people write it")
    func version() {
        #expect(PackedVersion(number: 7_002_018).description == "7.2.18")
        #expect(PackedVersion(9, 0, 0) < PackedVersion(9, 0, 1))
    }

    @Test("Networks: XML, bridge, start and stop")
    func networks() async throws {
        let connection = try await TestHypervisor(sampleNetwork).connect()
        #expect(try await connection.networks() == ["lan"])
        #expect(try await connection.isNetworkActive("lan"))
        #expect(try await connection.bridgeName(ofNetwork: "lan") == "virbr7")
        #expect(try await connection.networkXML("lan").contains("198.51.100.10"))
        try await connection.destroyNetwork("lan")
        #expect(try await !connection.isNetworkActive("lan"))
        try await connection.startNetwork("lan")
        await error(.operationInvalid) { try await connection.startNetwork("lan") }
        await error(.noNetwork) { _ = try await connection.networkXML("wan") }
        #expect(await connection.close() == .closed)
    }

    @Test("A reserved address is in the network's description until it is given back")
    func reservation() async throws {
        let connection = try await TestHypervisor(sampleNetwork).connect()
        let host = try #require(DHCPHost(mac: "52:54:00:AA:BB:CC", address: "198.51.100.20", name: "vm-1"))
        try await connection.addDHCPHost(host, toNetwork: "lan")
        let xml = try await connection.networkXML("lan")
        #expect(xml.contains("<host mac='52:54:00:aa:bb:cc' name='vm-1' ip='198.51.100.20'/>"))
        await error(.operationInvalid) { try await connection.addDHCPHost(host, toNetwork: "lan") }
        try await connection.removeDHCPHost(host, fromNetwork: "lan")
        #expect(try await !connection.networkXML("lan").contains("<host"))
        await error(.operationInvalid) { try await connection.removeDHCPHost(host, fromNetwork: "lan") }
        #expect(await connection.close() == .closed)
    }

    @Test(
        "A reservation is of a MAC, an IPv4 address and a host name, and of nothing else",
        arguments: [
            ("52:54:00:aa:bb", "198.51.100.20", nil), ("52:54:00:aa:bb:c", "198.51.100.20", nil),
            ("52:54:00:aa:bb:cg", "198.51.100.20", nil), ("52:54:00:aa:bb:cc", "198.51.100", nil),
            ("52:54:00:aa:bb:cc", "'/>", nil), ("52:54:00:aa:bb:cc", "fe80::1", nil),
            ("52:54:00:aa:bb:cc", "198.51.100.20", "a' b"), ("52:54:00:aa:bb:cc", "198.51.100.20", ""),
            ("٥2:54:00:aa:bb:cc", "198.51.100.20", nil),
        ] as [(String, String, String?)])
    func badReservation(mac: String, address: String, name: String?) {
        #expect(DHCPHost(mac: mac, address: address, name: name) == nil)
    }
}
