import Model
import RPC
import SQL
import SQLite
import Testing

@testable import Compute

@Suite("Reports of the host", .timeLimit(.minutes(2)))
struct HostReportTests {
    @Test("The first report is whole, those after it say what has changed, and both give the same record")
    func byDifference() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            try await agent.built(instance)
            let used = instance.resources + Resources(vcpus: 0, memoryMiB: 512, diskGiB: 0)
            let heard = try await agent.conductor.until { $0.hosts.last?.used == used && $0.hosts.last?.workload == 0 }
            #expect(heard.wholeHostReports == 1)
            var told = try #require(heard.hosts.last)
            let now = try await agent.core.reporter.report()
            told.renew(sequence: now.sequence, measuredAt: now.measuredAt)
            told.uptimeSeconds = now.uptimeSeconds
            #expect(told == now)
        }
    }

    @Test("An audit that finds nothing new asks only whether the report is still known")
    func idle() async throws {
        let bench = try Bench()
        try await bench.run { agent in
            let first = try await agent.conductor.until { !$0.hosts.isEmpty }
            try await agent.core.reporter.measure()
            let heard = try await agent.conductor.until { !$0.hostChanges.isEmpty }
            let change = try #require(heard.hostChanges.last)
            #expect(change.usage == nil && change.base == first.hosts.last?.sequence)
            #expect(change.sequence > change.base && change.uuid == first.hosts.last?.uuid)
            #expect(heard.wholeHostReports == 1 && heard.hosts.count == 1)
        }
    }

    @Test("A conductor that does not know the base gets the whole report at once")
    func forgotten() async throws {
        let bench = try Bench()
        try await bench.run { agent in
            _ = try await agent.conductor.until { !$0.hosts.isEmpty }
            agent.conductor.script { $0.forgetsHosts = true }
            try await agent.core.reporter.measure()
            let heard = try await agent.conductor.until { $0.wholeHostReports == 2 }
            #expect(heard.hostChanges.count == 1)
        }
    }

    @Test("A guest starts only after its claim has been reported")
    func claimFirst() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            agent.driver.hold(.powerOn)
            _ = try await agent.build(instance)
            await agent.driver.reached(.powerOn)
            let used = agent.conductor.heard.hosts.last?.used
            #expect(used == instance.resources + Resources(vcpus: 0, memoryMiB: 512, diskGiB: 0))
            agent.driver.release(.powerOn)
        }
    }

    @Test("A conductor that refuses the report holds up no guest")
    func refused() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        bench.conductor.script { $0.hostRefusal = Failure(.internalError, "the database is full") }
        try await bench.run { agent in
            try await agent.built(instance)
            #expect(agent.conductor.heard.hosts.isEmpty)
            agent.conductor.script { $0.hostRefusal = nil }
            agent.core.reporter.trigger()
            _ = try await agent.conductor.until { $0.hosts.last?.runningInstances == 1 }
        }
    }

    @Test("An agent whose host name is another machine's ends, and says so")
    func otherMachine() async throws {
        let bench = try Bench()
        let refusal = Failure(.conflict, "host host1 is known with uuid a, and this agent's is b")
        bench.conductor.script { $0.heartbeatRefusal = refusal }
        let agent = Agent(
            configuration: try bench.configuration(), driver: bench.driver, conductors: [bench.conductor.url])
        await #expect(throws: refusal) { try await agent.run() }
        await bench.conductor.stop()
    }

    @Test("Failed builds and those under way are told, and forgotten by a build that succeeds")
    func builds() async throws {
        let bench = try Bench()
        let (bad, good) = (Instance.test(), Instance.test())
        try await bench.run { agent in
            agent.driver.fail(.powerOn, Failure(.hypervisor, "no such luck"), calls: 1...1)
            let task = try await agent.build(bad)
            #expect(try await agent.conductor.outcome(of: task).failure != nil)
            _ = try await agent.conductor.until { $0.hosts.last?.failedBuilds == 1 && $0.hosts.last?.ioWorkload == 0 }
            agent.driver.hold(.powerOn)
            _ = try await agent.build(good)
            _ = try await agent.conductor.until { $0.hosts.last?.ioWorkload == 1 }
            agent.driver.release(.powerOn)
            _ = try await agent.conductor.until { $0.hosts.last?.failedBuilds == 0 && $0.hosts.last?.ioWorkload == 0 }
        }
    }

    @Test("Metrics are told where compute_monitors asks for them, and nowhere else", arguments: [true, false])
    func metrics(isOn: Bool) async throws {
        let bench = try Bench(settings: isOn ? ["DEFAULT.compute_monitors": "cpu.virt_driver"] : [:])
        try await bench.run { agent in
            try await agent.core.reporter.measure()
            let heard = try await agent.conductor.until { $0.hosts.last?.metrics != nil || !isOn && !$0.hosts.isEmpty }
            #expect(heard.hosts.last?.metrics?.map(\.name) == (isOn ? ["cpu.percent"] : nil))
        }
    }

    @Test("A host keeps the ratios of its first start until they are configured")
    func ratios() async throws {
        func ratios(_ settings: [String: String], _ folder: Folder?) async throws -> (AllocationRatios, Folder) {
            let bench = try Bench(folder: folder, settings: settings)
            let ratios = try await bench.run { agent in agent.core.tracker.snapshot.ratios }
            return (ratios, bench.folder)
        }
        let (first, folder) = try await ratios(["DEFAULT.initial_cpu_allocation_ratio": "8"], nil)
        #expect(first == AllocationRatios(cpu: 8, memory: 1, disk: 1))
        #expect(try await ratios(["DEFAULT.initial_cpu_allocation_ratio": "2"], folder).0.cpu == 8)
        #expect(try await ratios(["DEFAULT.cpu_allocation_ratio": "3"], folder).0.cpu == 3)
        #expect(try await ratios([:], folder).0.cpu == 8)
    }

    @Test("Every claim and release is an event, with who holds what")
    func events() async throws {
        let bench = try Bench()
        let (kept, gone, failing) = (Instance.test(), Instance.test(memoryMiB: 1_024), Instance.test())
        try await bench.run { agent in
            try await agent.built(kept)
            try await agent.built(gone)
            let deletion = try await agent.delete(gone.id, generation: 2)
            _ = try await agent.conductor.outcome(of: deletion)
            agent.driver.fail(.createDisks, Failure(.storage, "full"))
            let build = try await agent.build(failing)
            _ = try await agent.conductor.outcome(of: build)
            try await agent.settled()
            let host = HostName("host1")
            let told = try await agent.client.call(DescribeClaims.self, .init(host: host, events: 100))
            #expect(told.holdings.map(\.instance) == [kept.id])
            #expect(told.used == kept.resources + told.reserved && told.limit.memoryMiB == 16_384 - 512)
            #expect(
                told.events.reversed().map { [$0.change.rawValue, $0.instance.rawValue] } == [
                    ["claimed", kept.id.rawValue], ["claimed", gone.id.rawValue], ["released", gone.id.rawValue],
                    ["claimed", failing.id.rawValue], ["released", failing.id.rawValue],
                ])
            #expect(told.events.first { $0.instance == gone.id }?.resources == gone.resources)
            #expect(try await agent.client.call(DescribeClaims.self, .init(host: host, events: 2)).events.count == 2)
            for absurd in [-1, 1_001, .max] {
                await #expect(throws: Failure.self) {
                    try await agent.client.call(DescribeClaims.self, .init(host: host, events: absurd))
                }
            }
            await #expect(throws: Failure.self) {
                try await agent.client.call(DescribeClaims.self, .init(host: HostName("other"), events: 1))
            }
        }
    }

    @Test("Old claim events are forgotten, the newest kept")
    func trim() async throws {
        let journal = try await Journal.open(.memory, now: { Timestamp(microseconds: 1) })
        try await journal.database.write { connection in
            for number in 1...10 {
                let claim = Claim(
                    id: ClaimID("c\(number)"), instance: InstanceID("i\(number)"),
                    resources: Resources(vcpus: number, memoryMiB: 1, diskGiB: 1))
                try connection.insert(claim, now: Timestamp(microseconds: 1))
            }
            try connection.trimClaimEvents(to: 3)
            #expect(try connection.claimEvents(limit: 100).map(\.resources.vcpus) == [10, 9, 8])
        }
        await journal.database.close()
    }
}
