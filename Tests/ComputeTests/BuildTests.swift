import Model
import RPC
import SQL
import SQLite
import Testing

@testable import Compute

@Suite("Building an instance", .timeLimit(.minutes(2)))
struct BuildTests {
    @Test("A build claims, makes everything, starts the guest and tells how it went")
    func success() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            let outcome = try await agent.conductor.outcome(of: agent.build(instance))
            #expect(outcome.failure == nil)
            #expect(outcome.header.fence == instance.fence)
            #expect(outcome.host == HostName("host1"))
            #expect(outcome.powerState == .running)
            #expect(outcome.interfaces?.count == 1)
            #expect(outcome.launchedAt != nil)
            #expect(outcome.steps.map(\.name) == OperationDefinitions.build.map(\.name))
            #expect(agent.driver.host.state.domains[instance.id]?.powerState == .running)
            #expect(agent.driver.host.state.configDrives[instance.id] == "s3cret-word")
            try await agent.settled()
            try await agent.holdsExactly([instance])
            let record = try #require(try await agent.core.journal.guest(instance.id))
            #expect(record.vmState == .active)
            #expect(record.specification.interfaces == outcome.interfaces)
        }
    }

    @Test("A build whose record cannot be written holds nothing, and the next finds all the room")
    func unrecorded() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            let (journal, tracker) = (agent.core.journal, agent.core.tracker)
            try await journal.database.write { connection in
                // After the claim was made and written: the operation's row comes last.
                try connection.execute(
                    """
                    CREATE TRIGGER refuse BEFORE INSERT ON operations
                    BEGIN SELECT RAISE(ABORT, 'the disk is full'); END
                    """)
            }
            let failure = await #expect(throws: Failure.self) { _ = try await agent.build(instance) }
            #expect(failure?.message == "the record contradicts what is stored")
            #expect(tracker.snapshot.promised == .zero && tracker.snapshot.claims.isEmpty)
            #expect(try await journal.database.read { try $0.claims() }.isEmpty)
            try await journal.database.write { try $0.execute("DROP TRIGGER refuse") }
            _ = try await agent.conductor.outcome(of: agent.build(instance))
            try await agent.settled()
            try await agent.holdsExactly([instance])
        }
    }

    @Test("No password, user data or injected file stands in any row once the config drive is written")
    func secrets() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        bench.driver.hold(.define)
        try await bench.run { agent in
            let file = InjectedFile(path: "/etc/secret-path", contents: "c2VjcmV0IGNvbnRlbnQ=")
            let task = try await agent.build(instance, files: [file], key: "key-1")
            await agent.driver.reached(.define)
            #expect(agent.driver.host.state.injectedFiles[instance.id] == [file.path])
            let rows = try await agent.everyRow()
            #expect(rows.contains(instance.id.rawValue))
            #expect(!rows.contains("s3cret-word"))
            #expect(!rows.contains("dXNlci1kYXRhLXNlY3JldA=="))
            #expect(!rows.contains(file.path) && !rows.contains(file.contents))
            agent.driver.release(.define)
            _ = try await agent.conductor.outcome(of: task)
        }
    }

    @Test("No password is left by a build that failed before its config drive")
    func secretsOfFailure() async throws {
        let bench = try Bench()
        bench.driver.fail(.createDisks, Failure(.storage, "the disk is full"))
        try await bench.run { agent in
            _ = try await agent.conductor.outcome(of: agent.build(.test()))
            try await agent.settled()
            #expect(!(try await agent.everyRow()).contains("s3cret-word"))
        }
    }

    @Test(
        "A build that fails at any step leaves nothing, gives its claim back and says why",
        arguments: [DriverCall.prepareImage, .plugNetwork, .createDisks, .writeConfigDrive, .define, .powerOn],
        [false, true])
    func failure(call: DriverCall, afterEffect: Bool) async throws {
        let bench = try Bench()
        let instance = Instance.test()
        let failure = Failure(.hypervisor, "no luck with \(call.rawValue)")
        bench.driver.fail(call, failure, afterEffect: afterEffect)
        try await bench.run { agent in
            let outcome = try await agent.conductor.outcome(of: agent.build(instance))
            #expect(outcome.failure == failure)
            try await agent.settled()
            try await agent.holdsExactly([])
            let last = try await agent.conductor.until {
                $0.hosts.last?.used.vcpus == 0 && $0.hosts.last?.workload == 0
            }
            #expect(last.hosts.last?.runningInstances == 0)
        }
    }

    @Test("Two instances from one image download it once")
    func oneDownload() async throws {
        let bench = try Bench()
        let instances = (0..<3).map { _ in Instance.test() }
        try await bench.run { agent in
            var tasks: [TaskID] = []
            for instance in instances { tasks.append(try await agent.build(instance)) }
            for task in tasks { #expect(try await agent.conductor.outcome(of: task).failure == nil) }
            #expect(agent.conductor.heard.downloads == 1)
            try await agent.settled()
            try await agent.holdsExactly(instances)
        }
    }

    @Test(
        "An image that cannot be used fails the build for good, with nothing left",
        arguments: [
            (404, FakeConductor.image, FailureKind.imageUnacceptable),
            (200, FakeConductor.image + [1], .imageUnacceptable),
        ])
    func badImage(status: Int, bytes: [UInt8], expected: FailureKind) async throws {
        let bench = try Bench()
        bench.conductor.script { script in
            script.imageStatus = status
            script.image = bytes
        }
        try await bench.run { agent in
            let outcome = try await agent.conductor.outcome(of: agent.build(.test()))
            #expect(outcome.failure?.kind == expected)
            try await agent.settled()
            try await agent.holdsExactly([])
        }
    }

    @Test("A claim that does not fit is refused at once, naming resource, requested and free; nothing is recorded")
    func refusedClaim() async throws {
        let bench = try Bench()
        try await bench.run { agent in
            let failure = await #expect(throws: Failure.self) {
                _ = try await agent.build(.test(memoryMiB: 16_000))
            }
            #expect(failure?.kind == .insufficientResources)
            #expect(failure?.isRetriable == true)
            #expect(
                failure?.message == "memory_mib: 16000 requested, 15872 free of 16384 (limit 15872)")
            try await agent.holdsExactly([])
            try await agent.settled()
        }
    }

    @Test("Of builds that do not all fit, those that were admitted run and the others hold nothing")
    func contention() async throws {
        let bench = try Bench()
        try await bench.run { agent in
            let instances = (0..<6).map { _ in Instance.test(memoryMiB: 4_096) }
            let admitted = try await withThrowingTaskGroup(of: (Instance, TaskID)?.self) { group in
                for instance in instances {
                    group.addTask {
                        do {
                            return (instance, try await agent.build(instance))
                        } catch let failure as Failure where failure.kind == .insufficientResources {
                            return nil
                        }
                    }
                }
                return try await group.reduce(into: [(Instance, TaskID)]()) { found, pair in
                    if let pair { found.append(pair) }
                }
            }
            #expect(admitted.count == 3)
            for (_, task) in admitted { #expect(try await agent.conductor.outcome(of: task).failure == nil) }
            try await agent.settled()
            try await agent.holdsExactly(admitted.map(\.0))
        }
    }

    @Test("What an undo could not remove keeps its claim, and goes with the next cleaning")
    func leftovers() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        bench.driver.fail(.powerOn, Failure(.hypervisor, "started and lost"), afterEffect: true)
        bench.driver.fail(.powerOff, Failure(.hypervisor, "the monitor hangs"))
        try await bench.run { agent in
            let outcome = try await agent.conductor.outcome(of: agent.build(instance))
            #expect(outcome.failure?.message == "started and lost")
            try await agent.settled()
            // A guest that may run keeps its disks, its address and its claim.
            #expect(agent.driver.host.state.holdings[instance.id]?.count == 4)
            try await agent.holdsExactly([instance])
            agent.driver.heal()
            for guest in try await agent.core.journal.guests() {
                #expect(try await agent.core.dispatcher.cleanUp(guest))
            }
            try await agent.settled()
            try await agent.holdsExactly([])
        }
    }

    @Test("A domain of others with the instance's uuid is left alone by a failed build and by the delete after it")
    func foreignDomain() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        bench.driver.host.change {
            $0.domains[instance.id] = .init(name: "somebody's", powerState: .running, isOurs: false)
        }
        try await bench.run { agent in
            let outcome = try await agent.conductor.outcome(of: agent.build(instance))
            #expect(outcome.failure?.kind == .conflict)
            let deleted = try await agent.conductor.outcome(of: agent.delete(instance.id, generation: 2))
            #expect(deleted.failure == nil)
            try await agent.settled()
            #expect(agent.driver.host.state.domains[instance.id]?.powerState == .running)
            #expect(agent.driver.host.state.holdings == [instance.id: ["domain"]])
            #expect(try await agent.core.journal.claims().isEmpty)
        }
    }
}
