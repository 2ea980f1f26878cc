import Database
import Model
import RPC
import Telemetry
import Testing

@testable import Conductor

@Suite("Who a host is, and whether it is up")
struct HostIdentityTests {
    @Test("A heartbeat of another machine under a host's name is refused")
    func otherMachine() async throws {
        try await ControlPlane.with { plane in
            let host = try await plane.addHost("kvm1")
            let beat = Heartbeat.Params(
                host: host.name, binary: "nova-compute", version: 1, sequence: 1_000, uuid: "uuid-kvm1")
            _ = try await host.conductor.call(Heartbeat.self, beat)
            var strange = beat
            strange.uuid = "another"
            let failure = await #expect(throws: Failure.self) {
                try await host.conductor.call(Heartbeat.self, strange)
            }
            #expect(failure?.kind == .conflict && failure?.message.contains("another machine has the name") == true)
        }
    }

    @Test("An agent that is too old is told so, and does not count as up")
    func tooOld() async throws {
        try await ControlPlane.with { plane in
            let host = try await plane.addHost("kvm1")
            let before = try await plane.database.services.find(host: host.name, binary: "nova-compute")
            let beat = Heartbeat.Params(
                host: host.name, binary: "nova-compute", version: AgentVersion.oldest - 1, sequence: 1_000,
                uuid: "uuid-kvm1")
            let failure = await #expect(throws: Failure.self) { try await host.conductor.call(Heartbeat.self, beat) }
            #expect(failure?.kind == .unsupportedVersion && failure?.message.contains("upgrade the host") == true)
            let after = try await plane.database.services.find(host: host.name, binary: "nova-compute")
            #expect(after?.version == before?.version && after?.version != AgentVersion.oldest - 1)
        }
    }

    @Test("A change is taken on the report that it builds on; for another base the whole report is wanted")
    func changes() async throws {
        try await ControlPlane.with { plane in
            let host = try await plane.addHost("kvm1")
            let stored = try #require(try await plane.database.hosts.find(host.name)?.report)
            var change = ReportHostChange.Params(
                host: host.name, uuid: stored.uuid, base: stored.sequence, sequence: stored.sequence + 1,
                measuredAt: stored.measuredAt + .seconds(60), usage: HostUsage())
            change.usage?.workload = 7
            #expect(try await host.conductor.call(ReportHostChange.self, change).isTaken)
            #expect(try await plane.database.hosts.find(host.name)?.report.workload == 7)
            #expect(try await !host.conductor.call(ReportHostChange.self, change).isTaken)
            change.uuid = "another"
            let failure = await #expect(throws: Failure.self) {
                try await host.conductor.call(ReportHostChange.self, change)
            }
            #expect(failure?.kind == .conflict)
        }
    }

    @Test("A report that no host can send is refused, and nothing of it is kept")
    func absurd() async throws {
        try await ControlPlane.with { plane in
            let host = try await plane.addHost("kvm1")
            var report = try #require(try await plane.database.hosts.find(host.name)?.report)
            report.sequence += 10
            report.total.vcpus = .max
            let failure = await #expect(throws: Failure.self) {
                try await host.conductor.call(ReportHost.self, .init(report: report))
            }
            #expect(failure?.kind == .invalidParameters)
            #expect(try await plane.database.hosts.find(host.name)?.report.total.vcpus == 8)
        }
    }

    @Test("A host that is declared down is down, however it beats; a clock that went back keeps none up")
    func forcedDown() async throws {
        try await ControlPlane.with { plane in
            let host = try await plane.addHost("kvm1")
            let liveness = Liveness(
                services: plane.database.services, hosts: plane.database.hosts,
                evacuations: plane.database.evacuations, downAfter: .seconds(25), patience: .seconds(25),
                now: WallClock.now())
            let now = WallClock.now()
            try await liveness.record(.init(host: host.name, binary: "nova-compute", version: 1, sequence: 1), at: now)
            await liveness.flush(now: now)
            #expect(await liveness.isUp(host.name, now: now))
            #expect(await !liveness.isUp(host.name, now: now - .seconds(3_600)))
            let uuid = try #require(
                try await plane.database.services.find(host: host.name, binary: "nova-compute")?.uuid)
            _ = try await plane.database.services.change(uuid: uuid, isForcedDown: true)
            try await liveness.record(.init(host: host.name, binary: "nova-compute", version: 1, sequence: 2), at: now)
            #expect(await !liveness.isUp(host.name, now: now))
        }
    }

    @Test("Who looks dead may not be, after a start and after a time in which nothing could be written down")
    func hearing() {
        let start = Timestamp(seconds: 1_000)
        var hearing = Hearing(patience: .seconds(60), since: start)
        #expect(hearing.mayBeMistaken(at: start + .seconds(59)))
        #expect(!hearing.mayBeMistaken(at: start + .seconds(60)))
        hearing.wrote(at: start + .seconds(100))
        #expect(!hearing.mayBeMistaken(at: start + .seconds(101)))
        hearing.isCutOff = true
        #expect(hearing.mayBeMistaken(at: start + .seconds(500)))
        hearing.wrote(at: start + .seconds(600))
        #expect(hearing.mayBeMistaken(at: start + .seconds(659)))
        #expect(!hearing.mayBeMistaken(at: start + .seconds(660)))
    }
}
