import Crypto
import Model
import RPC
import Testing

@testable import Compute

@Suite("Commands and who may win", .timeLimit(.minutes(2)))
struct CommandTests {
    @Test("A command with a lower pair than the highest seen is refused, whatever it asks")
    func fences() async throws {
        let bench = try Bench()
        var instance = Instance.test()
        instance.fence = Fence(generation: 3, epoch: 2)
        try await bench.run { [instance] agent in
            try await agent.built(instance)
            for (generation, epoch) in [(2, 9), (3, 1), (0, 0)] as [(Int64, Int64)] {
                let failure = await #expect(throws: Failure.self) {
                    _ = try await agent.delete(instance.id, generation: generation, epoch: epoch)
                }
                #expect(failure?.kind == .conflict)
            }
            #expect(try await agent.core.journal.fence(instance.id) == Fence(generation: 3, epoch: 2))
            try await agent.holdsExactly([instance])
        }
    }

    @Test("A build that comes after the delete of the same instance is refused, though nothing is here any more")
    func lateBuild() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            let deletion = try await agent.delete(instance.id, generation: 2)
            #expect(try await agent.conductor.outcome(of: deletion).failure == nil)
            let failure = await #expect(throws: Failure.self) { _ = try await agent.build(instance) }
            #expect(failure?.kind == .conflict)
            try await agent.holdsExactly([])
        }
    }

    @Test("A refused command leaves the recorded pair as it was")
    func refusedFence() async throws {
        let bench = try Bench()
        let instance = Instance.test(memoryMiB: 1_000_000)
        try await bench.run { agent in
            await #expect(throws: Failure.self) { _ = try await agent.build(instance) }
            let fence = try await agent.core.journal.fence(instance.id)
            #expect(fence == nil)
        }
    }

    @Test("The same command sent again, with or without its key, is carried out once")
    func repeated() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        let task = TaskID(makeUUID())
        try await bench.run { agent in
            for key in ["k", "k", nil, "other"] { _ = try await agent.build(instance, task: task, key: key) }
            _ = try await agent.conductor.outcome(of: task)
            try await agent.settled()
            #expect(agent.driver.count(.createDisks) == 1)
            try await agent.holdsExactly([instance])
            // After the end the outcome is told once more: the sender may have missed it.
            _ = try await agent.build(instance, task: task)
            try await agent.conductor.until { $0.operations.count { $0.header.task == task } == 2 }
            #expect(agent.driver.count(.createDisks) == 1)
        }
    }

    @Test("One key with other parameters is refused")
    func keyMismatch() async throws {
        let bench = try Bench()
        try await bench.run { agent in
            _ = try await agent.build(.test(), key: "k")
            let failure = await #expect(throws: Failure.self) { _ = try await agent.build(.test(), key: "k") }
            #expect(failure?.kind == .idempotencyMismatch)
            try await agent.settled()
        }
    }

    @Test("A conductor that took the task over and sends the command again gets the outcome under its own pair")
    func takenOver() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        let task = TaskID(makeUUID())
        bench.driver.hold(.createDisks)
        try await bench.run { agent in
            _ = try await agent.build(instance, task: task)
            await agent.driver.reached(.createDisks)
            let fence = Fence(generation: 1, epoch: 1)
            _ = try await agent.build(instance, task: task, fence: fence)
            agent.driver.release(.createDisks)
            #expect(try await agent.conductor.outcome(of: task, fence: fence).failure == nil)
            #expect(agent.driver.count(.createDisks) == 1)
        }
    }

    @Test("A second build of an instance that is here is refused", arguments: [true, false])
    func second(whileBuilding: Bool) async throws {
        let bench = try Bench()
        let instance = Instance.test()
        if whileBuilding { bench.driver.hold(.createDisks) }
        try await bench.run { agent in
            let task = try await agent.build(instance)
            if !whileBuilding { _ = try await agent.conductor.outcome(of: task) }
            let failure = await #expect(throws: Failure.self) { _ = try await agent.build(instance) }
            #expect(failure?.kind == .conflict)
            agent.driver.release(.createDisks)
            _ = try await agent.conductor.outcome(of: task)
            try await agent.settled()
            try await agent.holdsExactly([instance])
        }
    }

    @Test("A delete does not wait behind a long build: it cancels it, and nothing of it is left")
    func deleteDuringBuild() async throws {
        for call in [DriverCall.createDisks, .powerOn] {
            let bench = try Bench()
            let instance = Instance.test()
            bench.driver.hold(call)
            try await bench.run { agent in
                let build = try await agent.build(instance)
                await agent.driver.reached(call)
                let deletion = try await agent.delete(instance.id, generation: 2)
                #expect(try await agent.conductor.outcome(of: deletion).failure == nil)
                #expect(try await agent.conductor.outcome(of: build).failure?.kind == .cancelled)
                try await agent.settled()
                try await agent.holdsExactly([])
            }
        }
    }

    @Test("Operations on one instance follow one another, in the order they came")
    func lane() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            try await agent.built(instance)
            agent.driver.hold(.powerOff)
            let stop = try await agent.operate(.stop, instance.id, generation: 2)
            await agent.driver.reached(.powerOff)
            let start = try await agent.operate(.start, instance.id, generation: 3)
            let other = Instance.test()
            try await agent.built(other)
            #expect(!agent.conductor.heard.operations.contains { $0.header.task == start })
            agent.driver.release(.powerOff)
            #expect(try await agent.conductor.outcome(of: stop).powerState == .shutdown)
            #expect(try await agent.conductor.outcome(of: start).powerState == .running)
            let order = agent.conductor.heard.operations.map(\.header.task)
            #expect(order.firstIndex(of: stop)! < order.firstIndex(of: start)!)
        }
    }

    @Test("No more builds run at once than the option says")
    func buildLimit() async throws {
        let bench = try Bench(settings: ["DEFAULT.max_concurrent_builds": "2"])
        bench.driver.hold(.createDisks)
        try await bench.run { agent in
            var tasks: [TaskID] = []
            for _ in 0..<4 { tasks.append(try await agent.build(.test())) }
            await agent.driver.reached(.createDisks)
            // The third can only begin its first step once one of the two has ended.
            #expect(agent.driver.count(.plugNetwork) <= 2)
            agent.driver.release(.createDisks)
            for task in tasks { #expect(try await agent.conductor.outcome(of: task).failure == nil) }
        }
    }

    @Test("Peers other than conductors, and wrong secrets, are turned away")
    func credentials() async throws {
        let bench = try Bench()
        let verifier = ConductorVerifier(
            secretHash: Hex.encode(digest(.sha256, of: Array(FakeConductor.conductorSecret.utf8))))
        _ = bench
        #expect(
            try await verifier.verify(peer: "service:conductor", secret: "conductor-secret") == .service("conductor"))
        #expect(try await verifier.verify(peer: "service:conductor@c1", secret: "conductor-secret") != nil)
        #expect(try await verifier.verify(peer: "service:conductor", secret: "wrong") == nil)
        #expect(try await verifier.verify(peer: "service:api", secret: "conductor-secret") == nil)
        #expect(try await verifier.verify(peer: "host:host1", secret: "conductor-secret") == nil)
    }
}

@Suite("Power", .timeLimit(.minutes(2)))
struct PowerTests {
    @Test("Stop, start and both reboots leave the guest as asked, and tell")
    func round() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            try await agent.built(instance)
            let expected: [(GuestCommand, PowerState, VMState, Int)] = [
                (.stop, .shutdown, .stopped, 1), (.start, .running, .active, 2), (.softReboot, .running, .active, 3),
                (.hardReboot, .running, .active, 4),
            ]
            for (index, (change, power, vmState, starts)) in expected.enumerated() {
                let task = try await agent.operate(change, instance.id, generation: Int64(index + 2))
                let outcome = try await agent.conductor.outcome(of: task)
                #expect(outcome.failure == nil)
                #expect(outcome.powerState == power)
                #expect(try await agent.core.journal.guest(instance.id)?.vmState == vmState)
                #expect(agent.driver.host.state.domains[instance.id]?.starts == starts)
            }
        }
    }

    @Test("A guest that does not reboot by itself, or cannot be asked, is reset")
    func fallsToHard() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            try await agent.built(instance)
            agent.driver.fail(.softReboot, Failure(.hypervisor, "no ACPI"))
            let task = try await agent.operate(.softReboot, instance.id, generation: 2)
            #expect(try await agent.conductor.outcome(of: task).failure == nil)
            #expect(agent.driver.count(.powerOff) == 1)
            #expect(agent.driver.host.state.domains[instance.id]?.starts == 2)
        }
    }

    @Test("A hard reboot does not wait for a soft one: it takes its place")
    func hardTakesOver() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            try await agent.built(instance)
            agent.driver.hold(.softReboot)
            let soft = try await agent.operate(.softReboot, instance.id, generation: 2)
            await agent.driver.reached(.softReboot)
            let hard = try await agent.operate(.hardReboot, instance.id, generation: 3)
            #expect(try await agent.conductor.outcome(of: hard).failure == nil)
            #expect(try await agent.conductor.outcome(of: soft).failure?.kind == .cancelled)
        }
    }

    @Test("A reboot that leaves the guest dead is an error, a failed stop leaves what was")
    func failures() async throws {
        let bench = try Bench()
        let (dead, alive) = (Instance.test(), Instance.test())
        try await bench.run { agent in
            try await agent.built(dead)
            try await agent.built(alive)
            agent.driver.fail(.powerOn, Failure(.hypervisor, "no memory"))
            let reboot = try await agent.operate(.hardReboot, dead.id, generation: 2)
            #expect(try await agent.conductor.outcome(of: reboot).failure?.message == "no memory")
            #expect(try await agent.core.journal.guest(dead.id)?.vmState == .error)
            agent.driver.fail(.powerOff, Failure(.hypervisor, "the monitor hangs"))
            let stop = try await agent.operate(.stop, alive.id, generation: 2)
            #expect(try await agent.conductor.outcome(of: stop).powerState == .running)
            #expect(try await agent.core.journal.guest(alive.id)?.vmState == .active)
        }
    }

    @Test("A power change of an instance that is not here is refused as not found")
    func unknown() async throws {
        let bench = try Bench()
        try await bench.run { agent in
            let failure = await #expect(throws: Failure.self) {
                let nobody = Instance.test()
                _ = try await agent.operate(.stop, nobody.id, generation: 1, record: nobody)
            }
            #expect(failure?.kind == .notFound)
        }
    }

    @Test("The console's end is answered; an instance that is not here has none")
    func console() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            try await agent.built(instance)
            agent.driver.host.change { $0.consoles[instance.id] = Array("one\ntwo\n\u{1B}[1mthree\n".utf8) }
            let answer = try await agent.client.call(GetConsoleOutput.self, .init(instance: instance.id, lines: 2))
            #expect(answer.output == "two\n[1mthree\n")
            let failure = await #expect(throws: Failure.self) {
                _ = try await agent.client.call(GetConsoleOutput.self, .init(instance: InstanceID("x"), lines: 1))
            }
            #expect(failure?.kind == .notFound)
        }
    }
}

@Suite("Deleting an instance", .timeLimit(.minutes(2)))
struct DeleteTests {
    @Test("A delete removes guest, address, disks, claim and record")
    func success() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            try await agent.built(instance)
            let outcome = try await agent.conductor.outcome(of: agent.delete(instance.id, generation: 2))
            #expect(outcome.failure == nil)
            #expect(outcome.powerState == .noState)
            try await agent.settled()
            try await agent.holdsExactly([])
        }
    }

    @Test(
        "Where one part of a removal fails the others are done, the claim stays, and a second delete ends it",
        arguments: [DriverCall.undefine, .unplugNetwork, .removeDisks])
    func partial(call: DriverCall) async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            try await agent.built(instance)
            agent.driver.fail(call, Failure(.hypervisor, "not today"))
            let outcome = try await agent.conductor.outcome(of: agent.delete(instance.id, generation: 2))
            #expect(outcome.failure?.message == "not today")
            let left: [DriverCall: [String]] = [
                .undefine: ["domain"], .unplugNetwork: ["network"], .removeDisks: ["disks", "config drive"],
            ]
            #expect(agent.driver.host.state.holdings[instance.id] == left[call])
            #expect(agent.core.tracker.snapshot.promised == instance.resources)
            agent.driver.heal()
            #expect(try await agent.conductor.outcome(of: agent.delete(instance.id, generation: 3)).failure == nil)
            try await agent.settled()
            try await agent.holdsExactly([])
        }
    }

    @Test("While a guest cannot be powered off nothing of it is taken away")
    func alive() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            try await agent.built(instance)
            agent.driver.fail(.powerOff, Failure(.hypervisor, "the monitor hangs"))
            let outcome = try await agent.conductor.outcome(of: agent.delete(instance.id, generation: 2))
            #expect(outcome.failure?.message == "the monitor hangs")
            try await agent.settled()
            #expect(agent.driver.host.state.holdings[instance.id]?.count == 4)
            try await agent.holdsExactly([instance])
        }
    }
}
