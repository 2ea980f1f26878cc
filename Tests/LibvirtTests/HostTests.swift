import Synchronization
import Testing

@testable import Libvirt

/// Repeatable randomness (SplitMix64).
private struct Seeded: RandomNumberGenerator, Sendable {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}

@Suite("A host that is connected again and again", .timeLimit(.minutes(1)))
struct HostTests {
    @Test("Subscribers learn of the connection, of events, and of the end")
    func events() async throws {
        let hypervisor = try TestHypervisor()
        let host = LibvirtHost(uri: hypervisor.uri)
        let service = Task { await host.run() }
        try await host.waitUntilConnected(timeout: .seconds(60))
        let events = host.events().makeAsyncIterator()
        #expect(await events.next() == .connected(generation: 1))
        #expect(await events.next() == .resync)
        // The test driver's world is the connection's own, so the event has to be caused where it is heard.
        let control = try await host.connection(.control)
        let identity = try await control.createTransient(xml: domainXML(name: "one"))
        #expect(
            await events.next()
                == .lifecycle(DomainEvent(uuid: identity.uuid, name: "one", kind: .started, detail: .booted)))
        service.cancel()
        await service.value
        #expect(await events.next() == nil)
        await error(.connectionLost) { _ = try await host.connection(.work) }
        withExtendedLifetime(hypervisor) {}
    }

    @Test("After a loss the subscription is made again, with a new generation and a resync")
    func reconnect() async throws {
        let hypervisor = try TestHypervisor()
        let uri = hypervisor.uri
        let opened = Mutex<[LibvirtHost.Role]>([])
        let host = LibvirtHost(
            uri: uri, reconnect: ReconnectPolicy(initialDelay: .milliseconds(1), maximumDelay: .milliseconds(1)),
            eventLimit: 100, clock: ContinuousClock(), generator: Seeded(state: 1)
        ) { (role) throws(LibvirtError) in
            opened.withLock { $0.append(role) }
            return try await LibvirtConnection.open(uri: uri)
        }
        let service = Task { await host.run() }
        let events = host.events().makeAsyncIterator()
        #expect(await events.next() == .connected(generation: 1))
        #expect(await events.next() == .resync)
        await host.lose(reason: "keepAlive")
        #expect(await events.next() == .connectionLost(reason: "keepAlive"))
        #expect(await events.next() == .connected(generation: 2))
        #expect(await events.next() == .resync)
        #expect(opened.withLock { $0.count } == 6)
        let identity = try await host.connection(.control).createTransient(xml: domainXML(name: "two"))
        #expect(
            await events.next()
                == .lifecycle(DomainEvent(uuid: identity.uuid, name: "two", kind: .started, detail: .booted)))
        service.cancel()
        await service.value
        withExtendedLifetime(hypervisor) {}
    }

    @Test("While there is no hypervisor, calls fail at once and the wait tells why")
    func unreachable() async throws {
        let host = LibvirtHost(uri: "qemu+unix:///system?socket=/nonexistent/apus.sock")
        let service = Task { await host.run() }
        await error(.connectionLost) { _ = try await host.connection(.work) }
        await error(.connectionLost) { try await host.waitUntilConnected(timeout: .milliseconds(50)) }
        service.cancel()
        await service.value
        await error(.connectionLost) { try await host.waitUntilConnected(timeout: .seconds(3_600)) }
    }

    @Test("Delays double with jitter up to the maximum, and start again after a connection that held")
    func backoff() {
        var link = HostLink(policy: ReconnectPolicy(initialDelay: .milliseconds(100), maximumDelay: .seconds(1)))
        var generator = Seeded(state: 7)
        for most in [0.1, 0.2, 0.4, 0.8, 1, 1] {
            let delay = link.failed(reason: "refused", using: &generator) / .seconds(1)
            #expect((most / 2...most).contains(delay))
        }
        link.opened(at: .seconds(10))
        #expect(link.state == .connected(generation: 1))
        // It held for less than the maximum delay: still the same trouble.
        #expect(link.lost(reason: "error", at: .seconds(10.5), using: &generator) >= .milliseconds(500))
        link.opened(at: .seconds(20))
        #expect(link.lost(reason: "error", at: .seconds(30), using: &generator) <= .milliseconds(100))
        #expect(link.generation == 2)
    }

    @Test("A full buffer becomes one resync, and keeps what happened to the connection last")
    func overflow() async {
        let hub = EventHub(limit: 10)
        let events = hub.subscribe().makeAsyncIterator()
        hub.connected(1)
        for index in 0..<25 { hub.deliver(.reboot(uuid: "\(index)", name: ""), from: 1) }
        hub.finish()
        var seen: [HostEvent] = []
        while let event = await events.next() { seen.append(event) }
        // Twice full, after 8 and after 17: what is left is what came since, behind the resync that covers the rest.
        let since = (18..<25).map { HostEvent.reboot(uuid: "\($0)", name: "") }
        #expect(seen == [.connected(generation: 1), .resync] + since)
    }

    @Test("Events of a connection that is no longer in force are dropped")
    func staleEvents() async {
        let hub = EventHub(limit: 10)
        let events = hub.subscribe().makeAsyncIterator()
        hub.deliver(.reboot(uuid: "early", name: ""), from: 1)
        hub.connected(1)
        #expect(hub.lost(1, reason: "error"))
        #expect(!hub.lost(1, reason: "again"))
        hub.deliver(.reboot(uuid: "late", name: ""), from: 1)
        hub.finish()
        var seen: [HostEvent] = []
        while let event = await events.next() { seen.append(event) }
        #expect(seen == [.connected(generation: 1), .resync, .connectionLost(reason: "error")])
    }
}
