import Testing

@testable import Libvirt

@Suite("Bulk statistics", .timeLimit(.minutes(1)))
struct StatisticsTests {
    @Test("One call tells the state of every domain")
    func states() async throws {
        let connection = try await TestHypervisor().connect()
        _ = try await connection.define(xml: domainXML(name: "off"))
        _ = try await connection.define(xml: domainXML(name: "on"))
        try await connection.start(.name("on"))
        // Only the state: libvirt's test driver refuses what it does not have.
        let stats = try await connection.statistics(.state)
        let byName = Dictionary(uniqueKeysWithValues: stats.map { ($0.identity.name, $0) })
        #expect(byName["on"]?.status == DomainStatus(.running, .booted))
        #expect(byName["off"]?.status?.state == .shutOff)
        #expect(try await connection.statistics(.state, of: .active).map(\.identity.name) == ["on"])
        #expect(await connection.close() == .closed)
    }

    private let identity = DomainIdentity(uuid: "u", name: "n", id: 1)

    @Test("Figures are read by name, whatever integer type carries them")
    func figures() {
        let stats = DomainStats(
            identity: identity,
            values: [
                "state.state": .integer(1), "state.reason": .integer(1), "cpu.time": .unsigned(1_500_000_000),
                "balloon.current": .unsigned(65_536), "balloon.maximum": .integer(131_072), "balloon.rss": .unsigned(9),
                "vcpu.current": .unsigned(2), "vcpu.maximum": .unsigned(4), "vcpu.0.state": .integer(1),
                "vcpu.0.time": .unsigned(7), "vcpu.3.state": .integer(1), "net.count": .unsigned(1),
                "net.0.name": .text("vnet0"), "net.0.rx.bytes": .unsigned(5), "block.count": .unsigned(1),
                "block.0.name": .text("vda"), "block.0.allocation": .unsigned(10), "block.0.capacity": .unsigned(20),
                "future.value": .double(1),
            ])
        #expect(stats.status == DomainStatus(.running, .booted))
        #expect(stats.cpuTime == .milliseconds(1_500))
        #expect((stats.memoryKiB, stats.maximumMemoryKiB, stats.residentKiB) == (65_536, 131_072, 9))
        #expect(stats.currentVCPUs == 2)
        #expect(stats.vcpus.map(\.number) == [0, 3])
        #expect(stats.vcpus.first?.time == .nanoseconds(7))
        #expect(stats.interfaces == [.init(name: "vnet0", receivedBytes: 5, transmittedBytes: nil)])
        #expect(stats.blocks.first?.allocatedBytes == 10)
    }

    @Test("A count without values, or of the wrong type, makes no list")
    func implausibleCounts() {
        let stats = DomainStats(
            identity: identity,
            values: [
                "block.count": .unsigned(.max), "net.count": .text("3"), "vcpu.maximum": .integer(-1),
                "cpu.time": .unsigned(.max), "state.state": .unsigned(.max),
            ])
        #expect(stats.blocks.count <= 5)
        #expect(stats.interfaces.isEmpty)
        #expect(stats.vcpus.isEmpty)
        #expect(stats.cpuTime == .nanoseconds(Int64.max))
        #expect(stats.status == nil)
    }
}
