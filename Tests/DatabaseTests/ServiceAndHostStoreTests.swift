import Database
import Model
import Testing

@Suite("Services")
struct ServiceStoreTests {
    private func beat(_ host: String, _ second: Int64, version: Int = 1) -> ServiceHeartbeat {
        ServiceHeartbeat(host: HostName(host), binary: "nova-compute", version: version, at: at(second))
    }

    @Test(
        "The first heartbeat makes a service; later ones date it, and an old one does not take it back",
        arguments: Engine.allCases)
    func heartbeats(engine: Engine) async throws {
        let services = try await makeDatabase(engine).services
        try await services.record([beat("a", 10), beat("b", 10)])
        try await services.record([beat("a", 20, version: 2), beat("a", 15, version: 2)])
        let found = try #require(try await services.find(host: HostName("a"), binary: "nova-compute"))
        #expect(found.lastSeenAt == at(20) && found.reportCount == 3 && found.version == 2)
        #expect(found.createdAt == at(10) && !found.isDisabled && !found.isForcedDown)
        #expect(try await services.list().map(\.id) == [1, 2])
        #expect(try await services.list(host: HostName("b")).count == 1)
        #expect(try await services.list(binary: "nova-conductor").isEmpty)
    }

    @Test("After the clock has gone back, heartbeats count again at once", arguments: Engine.allCases)
    func clockBack(engine: Engine) async throws {
        let services = try await makeDatabase(engine).services
        try await services.record([beat("a", 10_000)])
        try await services.record([beat("a", 100)])
        #expect(try await services.list().first?.lastSeenAt == at(100))
    }

    @Test("Up is: heard of in time, and not declared down", arguments: [(35, true), (36, false)] as [(Int64, Bool)])
    func isUp(second: Int64, expected: Bool) async throws {
        let services = try await makeDatabase().services
        try await services.record([beat("a", 10)])
        let found = try #require(try await services.list().first)
        #expect(found.isUp(now: at(second), downAfter: .seconds(25)) == expected)
        // A clock that went back by more than the down time says nothing of the service.
        #expect(!found.isUp(now: at(-16), downAfter: .seconds(25)) && found.isUp(now: at(-15), downAfter: .seconds(25)))
        let down = try await services.change(uuid: found.uuid, isForcedDown: true)
        #expect(!down.isUp(now: at(10), downAfter: .seconds(25)))
    }

    @Test("A change touches only what it names; heartbeats leave it alone", arguments: Engine.allCases)
    func change(engine: Engine) async throws {
        let services = try await makeDatabase(engine).services
        try await services.record([beat("a", 10)])
        let uuid = try #require(try await services.list().first?.uuid)
        _ = try await services.change(uuid: uuid, isDisabled: true, disabledReason: "repair")
        try await services.record([beat("a", 20)])
        var found = try await services.change(uuid: uuid, isForcedDown: true)
        #expect(found.isDisabled && found.disabledReason == "repair" && found.isForcedDown)
        found = try await services.change(uuid: uuid, isDisabled: false, disabledReason: .some(nil))
        #expect(!found.isDisabled && found.disabledReason == nil && found.isForcedDown)
        #expect(try await services.find(uuid: uuid) == found)
    }

    @Test(
        "An unknown service is named; a deleted one comes back with its next heartbeat, as another",
        arguments: Engine.allCases)
    func delete(engine: Engine) async throws {
        let services = try await makeDatabase(engine).services
        await #expect(throws: StoreError.notFound("Service x")) { try await services.change(uuid: "x") }
        try await services.record([beat("a", 10)])
        let uuid = try #require(try await services.list().first?.uuid)
        try await services.delete(uuid: uuid)
        await #expect(throws: StoreError.notFound("Service \(uuid)")) { try await services.delete(uuid: uuid) }
        try await services.record([beat("a", 20)])
        let again = try #require(try await services.list().first)
        #expect(again.uuid != uuid && again.id == 2)
    }
}

@Suite("Hosts")
struct HostStoreTests {
    @Test("A report comes back whole", arguments: Engine.allCases)
    func roundTrip(engine: Engine) async throws {
        let hosts = try await makeDatabase(engine).hosts
        let report = makeReport("a")
        #expect(try await hosts.record(report, now: at(2)))
        let found = try #require(try await hosts.find(HostName("a")))
        #expect(found.report == report && found.id == 1 && found.updatedAt == at(2) && !found.isDeleted)
    }

    @Test(
        "A late report is ignored, whatever the host's clock says",
        arguments: [(5, 10, false), (4, 11, false), (6, 9, true), (6, 11, true)] as [(Int64, Int64, Bool)])
    func late(sequence: Int64, second: Int64, isTaken: Bool) async throws {
        let hosts = try await makeDatabase().hosts
        #expect(try await hosts.record(makeReport("a", sequence: 5, measuredAt: 10), now: at(10)))
        let late = makeReport("a", sequence: sequence, measuredAt: second, usedMiB: 99)
        #expect(try await hosts.record(late, now: at(11)) == isTaken)
        #expect(try await hosts.find(HostName("a"))?.report.used.memoryMiB == (isTaken ? 99 : 512))
    }

    @Test(
        "A machine that reports under another's name is refused until the host's record is deleted",
        arguments: Engine.allCases)
    func otherMachine(engine: Engine) async throws {
        let hosts = try await makeDatabase(engine).hosts
        try await hosts.record(makeReport("a", uuid: "u1", sequence: 5), now: at(1))
        let stranger = makeReport("a", uuid: "u2", sequence: 9, measuredAt: 9, usedMiB: 99)
        let refusal = StoreError.otherMachine(host: HostName("a"), known: "u1", given: "u2")
        await #expect(throws: refusal) { try await hosts.record(stranger, now: at(2)) }
        await #expect(throws: refusal) {
            try await hosts.apply(
                nil, to: HostName("a"), uuid: "u2", base: 5, sequence: 6, measuredAt: at(2), now: at(2))
        }
        #expect(try await hosts.find(HostName("a"))?.report.used.memoryMiB == 512)
        try await hosts.delete(HostName("a"), now: at(3))
        #expect(try await hosts.record(stranger, now: at(4)))
        #expect(try await hosts.find(HostName("a"))?.report.uuid == "u2")
    }

    @Test(
        "A change brings the report that it builds on up to date; one that says nothing writes nothing",
        arguments: Engine.allCases)
    func change(engine: Engine) async throws {
        let hosts = try await makeDatabase(engine).hosts
        let (host, first) = (HostName("a"), makeReport("a", sequence: 5, measuredAt: 10))
        try await hosts.record(first, now: at(10))
        let stored = try #require(try await hosts.find(host))
        #expect(
            try await hosts.apply(
                nil, to: host, uuid: first.uuid, base: 5, sequence: 6, measuredAt: at(70), now: at(70)))
        #expect(try await hosts.find(host) == stored)

        var usage = HostUsage()
        usage.used = Resources(vcpus: 3, memoryMiB: 999, diskGiB: 4)
        usage.runningInstances = 2
        #expect(
            try await hosts.apply(
                usage, to: host, uuid: first.uuid, base: 5, sequence: 7, measuredAt: at(130), now: at(131)))
        let changed = try #require(try await hosts.find(host))
        #expect(changed.report.used == usage.used && changed.report.runningInstances == 2)
        #expect(changed.report.sequence == 7 && changed.report.measuredAt == at(130))
        #expect(changed.report.uptimeSeconds == 125 && changed.report.total == first.total)
        #expect(changed.revision > stored.revision)
    }

    @Test(
        "A change that builds on another report than what is stored is not taken, and changes nothing",
        arguments: [(4, 6), (6, 7), (5, 5), (5, 4)] as [(Int64, Int64)])
    func changeOfOther(base: Int64, sequence: Int64) async throws {
        let hosts = try await makeDatabase().hosts
        try await hosts.record(makeReport("a", sequence: 5), now: at(1))
        let stored = try await hosts.find(HostName("a"))
        var usage = HostUsage()
        usage.workload = 3
        for told in [usage, nil] {
            #expect(
                try await !hosts.apply(
                    told, to: HostName("a"), uuid: "uuid-a", base: base, sequence: sequence, measuredAt: at(2),
                    now: at(2)))
        }
        #expect(try await hosts.find(HostName("a")) == stored)
        #expect(
            try await !hosts.apply(
                usage, to: HostName("b"), uuid: "uuid-b", base: base, sequence: sequence, measuredAt: at(2), now: at(2))
        )
    }

    @Test("A change to what no host can have is refused", arguments: Engine.allCases)
    func absurdChange(engine: Engine) async throws {
        let hosts = try await makeDatabase(engine).hosts
        try await hosts.record(makeReport("a", sequence: 5), now: at(1))
        var usage = HostUsage()
        usage.used = Resources(vcpus: .max, memoryMiB: 1, diskGiB: 1)
        await #expect(throws: Failure.self) {
            try await hosts.apply(
                usage, to: HostName("a"), uuid: "uuid-a", base: 5, sequence: 6, measuredAt: at(2), now: at(2))
        }
    }

    @Test("Changes are told once each, the newest state only, deletions included", arguments: Engine.allCases)
    func changes(engine: Engine) async throws {
        let hosts = try await makeDatabase(engine).hosts
        for name in ["a", "b", "c"] { try await hosts.record(makeReport(name), now: at(1)) }
        let first = try await hosts.changes(since: 0)
        #expect(first.map(\.report.host.rawValue) == ["a", "b", "c"])
        let seen = try #require(first.last?.revision)
        #expect(try await hosts.changes(since: seen).isEmpty)

        for sequence in 2...4 as ClosedRange<Int64> {
            try await hosts.record(makeReport("a", sequence: sequence, measuredAt: sequence), now: at(sequence))
        }
        try await hosts.delete(HostName("b"), now: at(5))
        let later = try await hosts.changes(since: seen)
        #expect(later.map(\.report.host.rawValue) == ["a", "b"])
        #expect(later.map(\.isDeleted) == [false, true])
        #expect(later.first?.report.sequence == 4)
        #expect(try await hosts.list().map(\.report.host.rawValue) == ["a", "c"])
        #expect(try await hosts.find(HostName("b")) == nil)
    }

    @Test("A deleted host that reports again is back, under its old number", arguments: Engine.allCases)
    func comesBack(engine: Engine) async throws {
        let hosts = try await makeDatabase(engine).hosts
        try await hosts.record(makeReport("a"), now: at(1))
        try await hosts.delete(HostName("a"), now: at(2))
        try await hosts.record(makeReport("a", sequence: 2, measuredAt: 3), now: at(3))
        #expect(try await hosts.find(HostName("a"))?.id == 1)
    }

    @Test("Two hosts with one uuid are told apart by refusing the second", arguments: Engine.allCases)
    func sameUUID(engine: Engine) async throws {
        let hosts = try await makeDatabase(engine).hosts
        try await hosts.record(makeReport("a", uuid: "u"), now: at(1))
        await #expect(throws: StoreError.exists("Host uuid u of host a")) {
            try await hosts.record(makeReport("b", uuid: "u"), now: at(1))
        }
    }
}
