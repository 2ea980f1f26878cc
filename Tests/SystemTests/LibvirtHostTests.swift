import Foundation
import Libvirt
import Testing

@Suite(
    "Libvirt, against a real libvirtd and QEMU", .serialized, .enabled(if: isHypervisorTier), .timeLimit(.minutes(5)))
struct LibvirtHostTests {
    private func connected(
        _ uri: String, _ options: ConnectionOptions = ConnectionOptions(),
        _ body: (LibvirtHost) async throws -> Void
    ) async throws {
        let host = LibvirtHost(uri: uri, options: options)
        let service = Task { await host.run() }
        defer { service.cancel() }
        try await host.waitUntilConnected(timeout: .seconds(60))
        try await body(host)
        service.cancel()
        await service.value
    }

    @Test("A guest lives: paused start, resume, figures, stop, undefine; every step is an event")
    func life() async throws {
        try await LabHost.with { lab in
            try await connected(lab.uri) { host in
                var events = host.events().makeAsyncIterator()
                let work = try await host.connection(.work)
                let uuid = try await work.define(xml: guestXML("one")).uuid
                try await work.start(.uuid(uuid), options: .paused)
                #expect(try await work.status(of: .uuid(uuid)) == DomainStatus(.paused, .userRequest))
                try await work.resume(.uuid(uuid))
                #expect(try await work.status(of: .uuid(uuid)).state == .running)

                let stats = try #require(
                    try await host.connection(.statistics).statistics([.state, .cpu, .balloon, .vcpus]).first)
                #expect(stats.identity.uuid == uuid)
                #expect(stats.memoryKiB == 32_768)
                #expect(stats.currentVCPUs == 1)
                #expect(stats.vcpus.map(\.number) == [0])

                try await host.connection(.control).destroy(.uuid(uuid))
                #expect(try await work.status(of: .uuid(uuid)) == DomainStatus(.shutOff, .destroyed))
                try await work.undefine(.uuid(uuid))
                var seen: [DomainEvent.Kind] = []
                while seen.last != .undefined, case .lifecycle(let event)? = await events.first(where: \.isLifecycle) {
                    #expect(event.uuid == uuid)
                    seen.append(event.kind)
                }
                // QEMU tells of a resume of its own while it starts, and of the shutdown that destroying it is.
                let expected: [DomainEvent.Kind] = [.defined, .started, .suspended, .resumed, .stopped, .undefined]
                #expect(seen.filter { $0 != .shutdown } == expected)
            }
        }
    }

    @Test("The host tells its versions and abilities; what it cannot do is refused by name")
    func abilities() async throws {
        try await LabHost.with { lab in
            let connection = try await LibvirtConnection.open(uri: lab.uri)
            #expect(try await connection.hypervisorType() == "QEMU")
            #expect(try await connection.hypervisorVersion() > PackedVersion(6, 2, 0))
            #expect(try await connection.freeMemory() > 0)
            #expect(try await connection.nodeInfo().cpus > 0)
            #expect(
                try await connection.domainCapabilities(machine: "pc", type: "qemu").contains("<domainCapabilities>"))
            for xml in [guestXML("x", machine: "no-such-machine"), guestXML("x", inside: "<disk type='nonsense'/>")] {
                let thrown = await #expect(throws: LibvirtError.self) { _ = try await connection.define(xml: xml) }
                #expect([.configUnsupported, .xmlInvalid, .argumentInvalid].contains(thrown?.code))
            }
            let disk = "<disk type='file'><source file='/nonexistent'/><target dev='vda'/></disk>"
            _ = try await connection.define(xml: guestXML("no-disk", inside: disk))
            await #expect(throws: LibvirtError.self) { try await connection.start(.name("no-disk")) }
            #expect(try await connection.status(of: .name("no-disk")).state == .shutOff)
            let destroyed = await #expect(throws: LibvirtError.self) {
                try await connection.destroy(.name("no-disk"))
            }
            #expect(destroyed?.code == .operationInvalid)
            let other = guestXML("no-disk").replacing("<name>", with: "<uuid>\(UUID())</uuid><name>")
            let conflict = await #expect(throws: LibvirtError.self) { _ = try await connection.define(xml: other) }
            #expect([.operationFailed, .domainExists].contains(conflict?.code))
            #expect(await connection.close() == .closed)
        }
    }

    @Test("An address is reserved in a running network, and given back")
    func reservation() async throws {
        try await LabHost.with { lab in
            let connection = try await LibvirtConnection.open(uri: lab.uri)
            #expect(try await connection.isNetworkActive("default"))
            #expect(try await connection.bridgeName(ofNetwork: "default") == "virbr0")
            let xml = try await connection.networkXML("default")
            let start = try #require(xml.firstMatch(of: /<range start='([0-9.]+)'/)?.1)
            let host = try #require(DHCPHost(mac: "52:54:00:00:00:01", address: String(start), name: "vm"))
            try await connection.addDHCPHost(host, toNetwork: "default")
            #expect(try await connection.networkXML("default").contains("ip='\(start)'"))
            let again = await #expect(throws: LibvirtError.self) {
                try await connection.addDHCPHost(host, toNetwork: "default")
            }
            #expect(again?.code == .operationInvalid)
            #expect(try await connection.dhcpLeases(ofNetwork: "default") == [])
            try await connection.removeDHCPHost(host, fromNetwork: "default")
            #expect(try await !connection.networkXML("default").contains("52:54:00:00:00:01"))
            #expect(await connection.close() == .closed)
        }
    }

    @Test("libvirtd is killed and started again: lost, connected, resync; the guest ran on; events come again")
    func restart() async throws {
        try await LabHost.with { lab in
            try await connected(lab.uri) { host in
                var events = host.events().makeAsyncIterator()
                let uuid = try await host.connection(.work).define(xml: guestXML("survivor")).uuid
                try await host.connection(.work).start(.uuid(uuid))
                kill(try lab.pid("libvirtd.pid"), SIGKILL)
                let lost = await events.first { if case .connectionLost = $0 { true } else { false } }
                #expect(lost != nil)
                try await lab.inside(["libvirtd", "--daemon", "--pid-file", "/run/libvirt/libvirtd.pid"])
                #expect(
                    await events.first { if case .connected = $0 { true } else { false } } == .connected(generation: 2))
                #expect(await events.next() == .resync)
                #expect(try await host.connection(.statistics).domains(.active).map(\.uuid) == [uuid])
                // The daemon takes up its guests one by one; a call that changes something waits for that.
                try await host.connection(.work).suspend(.uuid(uuid))
                try await host.connection(.control).destroy(.uuid(uuid))
                let stopped = DomainEvent(uuid: uuid, name: "survivor", kind: .stopped, detail: .destroyed)
                #expect(await events.first { $0 == .lifecycle(stopped) } != nil)
            }
        }
    }

    @Test("A libvirtd that hangs is a lost connection, by keepalive, and its calls come back")
    func frozenDaemon() async throws {
        try await LabHost.with { lab in
            var options = ConnectionOptions()
            options.keepAliveInterval = .seconds(1)
            options.keepAliveCount = 1
            try await connected(lab.uri, options) { host in
                var events = host.events().makeAsyncIterator()
                let work = try await host.connection(.work)
                let daemon = try lab.pid("libvirtd.pid")
                kill(daemon, SIGSTOP)
                defer { kill(daemon, SIGCONT) }
                let thrown = await #expect(throws: LibvirtError.self) { try await work.ping() }
                #expect(thrown?.code == .connectionLost)
                let lost = await events.first { if case .connectionLost = $0 { true } else { false } }
                #expect(lost != nil)
                kill(daemon, SIGCONT)
                #expect(
                    await events.first { if case .connected = $0 { true } else { false } } == .connected(generation: 2))
            }
        }
    }

    @Test("A guest that hangs holds up neither the statistics nor the others, and can be destroyed")
    func frozenGuest() async throws {
        try await LabHost.with { lab in
            var options = ConnectionOptions()
            options.callDeadline = .seconds(3)
            // Bulk statistics are the thing under test; on a busy machine they may take longer than an agent allows.
            options.statisticsDeadline = .seconds(20)
            try await connected(lab.uri, options) { host in
                let hung = try await host.connection(.work).createTransient(xml: guestXML("hung")).uuid
                let other = try await host.connection(.work).createTransient(xml: guestXML("other")).uuid
                kill(try lab.pid("qemu/hung.pid"), SIGSTOP)

                for _ in 0..<3 {
                    let thrown = await #expect(throws: LibvirtError.self) {
                        try await host.connection(.work).suspend(.uuid(hung))
                    }
                    #expect(thrown?.code == .operationTimeout)
                }
                let stats = try await host.connection(.statistics).statistics([.state, .balloon])
                #expect(Set(stats.map(\.identity.uuid)) == [hung, other])
                try await host.connection(.work).suspend(.uuid(other))
                #expect(try await host.connection(.work).status(of: .uuid(other)).state == .paused)
                try await host.connection(.control).destroy(.uuid(hung))
                #expect(try await host.connection(.work).domains(.active).map(\.uuid) == [other])
                try await host.connection(.control).destroy(.uuid(other))
            }
        }
    }
}

extension HostEvent {
    fileprivate var isLifecycle: Bool {
        if case .lifecycle = self { true } else { false }
    }
}

extension LabHost {
    /// Runs a command in the host's namespaces.
    func inside(_ command: [String]) async throws {
        try await tool(repository + "/deploy/lab", ["exec", "--dir", folder, "host1", "--"] + command)
    }

    /// The pid that a daemon or a QEMU of the host wrote below `/run/libvirt`.
    func pid(_ file: String) throws -> pid_t {
        let path = URL(filePath: socket).deletingLastPathComponent().appending(path: file).path
        let text = try String(contentsOfFile: path, encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines)
        return try #require(pid_t(text))
    }
}

/// A guest without disk: firmware that finds nothing to boot, which runs for as long as it is let.
private func guestXML(_ name: String, machine: String = "pc", inside: String = "") -> String {
    """
    <domain type='qemu'><name>\(name)</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
    <os><type machine='\(machine)'>hvm</type></os><features><acpi/></features>
    <devices>\(inside)</devices></domain>
    """
}

extension AsyncIteratorProtocol where Element == HostEvent, Failure == Never {
    /// The next event that `isWanted` lets through.
    fileprivate mutating func first(where isWanted: (HostEvent) -> Bool) async -> HostEvent? {
        while let event = await next(isolation: nil) {
            if isWanted(event) { return event }
        }
        return nil
    }
}
