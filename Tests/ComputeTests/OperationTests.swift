import Crypto
import Model
import RPC
import Testing

@testable import Compute

@Suite("Each operation on a guest that is there", .timeLimit(.minutes(10)))
struct OperationTests {
    @Test("The table of tests has every operation that has steps")
    func complete() {
        let built = OperationKind.allCases.filter { !OperationDefinitions.stepNames(of: $0).isEmpty }
        let others: Set<OperationKind> = [
            .build, .delete, .snapshot, .reserve, .setAside, .takeOver, .release, .forget, .takeBack,
            .takeIn, .discard, .offer, .receive, .send, .arrive, .leave,
        ]
        #expect(Set(CommandCase.all.map(\.kind)).union(others).isSuperset(of: built))
    }

    @Test("does what it promises, by the calls that it needs, and tells", arguments: CommandCase.all)
    func success(test: CommandCase) async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            let generation = try await agent.begin(test, instance)
            let before = Dictionary(uniqueKeysWithValues: DriverCall.allCases.map { ($0, agent.driver.count($0)) })
            let task = try await agent.operate(test.command, instance.id, generation: generation)
            let outcome = try await agent.conductor.outcome(of: task)
            #expect(outcome.failure == nil)
            #expect(outcome.vmState == test.vmState)
            #expect(outcome.powerState == test.powerState)
            let guest = try await agent.core.journal.guest(instance.id)
            #expect(guest?.vmState == test.vmState)
            #expect(outcome.interfaces == guest?.specification.interfaces)
            #expect(test.effect(agent.driver.host.state, instance.id))
            let background: Set<DriverCall> = [
                .observe, .guests, .capacity, .tidyImageCache, .limitConsoleLogs, .snapshots,
            ]
            for call in DriverCall.allCases where !background.contains(call) {
                let isMade = agent.driver.count(call) > before[call, default: 0]
                // An image that is in the cache is not written again.
                #expect(isMade == test.calls.contains(call) || call == .prepareImage, "\(call)")
            }
            try await agent.settled()
            try await agent.agrees(instance.id)
            try await agent.holdsExactly([instance])
        }
    }

    @Test(
        "fails with the reason where a call of it fails, and leaves nothing done by half", arguments: CommandCase.all,
        [false, true])
    func failure(test: CommandCase, afterEffect: Bool) async throws {
        for call in test.calls where call != .softReboot {
            let bench = try Bench()
            let instance = Instance.test()
            try await bench.run { agent in
                let generation = try await agent.begin(test, instance)
                let first = agent.driver.count(call) + 1
                // Once or twice: enough for a step without a second try; the undo finds everything in order.
                agent.driver.fail(
                    call, Failure(.hypervisor, "no \(call) today"), calls: first...first, afterEffect: afterEffect)
                let task = try await agent.operate(test.command, instance.id, generation: generation)
                let outcome = try await agent.conductor.outcome(of: task)
                let comment = Comment("\(call), \(outcome.vmState?.rawValue ?? "-")")
                #expect(outcome.failure?.message == "no \(call) today", comment)
                try await agent.settled()
                try await agent.agrees(instance.id, comment)
                agent.driver.heal()
                let deletion = try await agent.delete(instance.id, generation: generation + 1)
                #expect(try await agent.conductor.outcome(of: deletion).failure == nil, comment)
                try await agent.settled()
                try await agent.holdsExactly([])
            }
        }
    }

    @Test("is tried again after a failure that may pass, where that harms nothing")
    func retried() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            try await agent.built(instance)
            agent.driver.fail(.pause, Failure(.hypervisor, "busy", isRetriable: true), calls: 1...1)
            let task = try await agent.operate(.pause, instance.id, generation: 2)
            #expect(try await agent.conductor.outcome(of: task).failure == nil)
            #expect(agent.driver.count(.pause) == 2)
        }
    }

    @Test("does not wait behind a delete, whatever it is at: nothing of either is left", arguments: CommandCase.all)
    func deleted(test: CommandCase) async throws {
        for call in test.calls {
            let bench = try Bench()
            let instance = Instance.test()
            try await bench.run { agent in
                let generation = try await agent.begin(test, instance)
                agent.driver.hold(call)
                let task = try await agent.operate(test.command, instance.id, generation: generation)
                await agent.driver.reached(call)
                let deletion = try await agent.delete(instance.id, generation: generation + 1)
                agent.driver.release(call)
                #expect(try await agent.conductor.outcome(of: deletion).failure == nil)
                _ = try await agent.conductor.outcome(of: task)
                try await agent.settled()
                try await agent.holdsExactly([])
            }
        }
    }

    @Test(
        "gives way to a hard reboot where the API lets one pass",
        arguments: CommandCase.all.filter { $0.kind.yieldsToHardReboot })
    func hardReboot(test: CommandCase) async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            let generation = try await agent.begin(test, instance)
            let call = test.calls[0]
            agent.driver.hold(call)
            let task = try await agent.operate(test.command, instance.id, generation: generation)
            await agent.driver.reached(call)
            let reboot = try await agent.operate(.hardReboot, instance.id, generation: generation + 1)
            // Held calls of the cancelled operation end by themselves; those of the reboot are to go through.
            #expect(try await agent.conductor.outcome(of: task).failure?.kind == .cancelled)
            agent.driver.release(call)
            let outcome = try await agent.conductor.outcome(of: reboot)
            #expect(outcome.failure == nil && outcome.vmState == .active)
            try await agent.settled()
            try await agent.agrees(instance.id)
        }
    }

    @Test("No password stays in the journal once it has been used", arguments: [false, true])
    func secrets(failing: Bool) async throws {
        let commands: [GuestCommand] = [
            .setPassword(CommandCase.password), .rescue(CommandCase.material), .unrescue,
            .rebuild(CommandCase.material),
        ]
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            try await agent.built(instance)
            if failing {
                agent.driver.fail(.setPassword, Failure(.conflict, "no agent"))
                agent.driver.fail(.powerOn, Failure(.hypervisor, "no memory"))
            }
            for (index, command) in commands.enumerated() {
                var record = instance
                record.userData = "dXNlci1kYXRhLXNlY3JldA=="
                let task = try await agent.operate(
                    command, instance.id, generation: Int64(index + 2), record: record)
                #expect((try await agent.conductor.outcome(of: task).failure == nil) == !failing)
            }
            try await agent.settled()
            let text = try await agent.everyRow()
            #expect(!text.contains(CommandCase.password))
            #expect(!text.contains(instance.userData ?? "-"))
        }
    }
}

@Suite("What an operation heeds", .timeLimit(.minutes(2)))
struct OperationDetailTests {
    @Test("A guest whose saved memory is gone is an error, never a silent boot")
    func lostMemory() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            try await agent.built(instance)
            _ = try await agent.conductor.outcome(of: agent.operate(.suspend, instance.id, generation: 2))
            agent.driver.host.change { $0.domains[instance.id]?.hasSavedMemory = false }
            let outcome = try await agent.conductor.outcome(of: agent.operate(.resume, instance.id, generation: 3))
            #expect(outcome.failure?.kind == .notFound)
            #expect(outcome.vmState == .error && outcome.powerState == .shutdown)
            #expect(agent.driver.host.state.domains[instance.id]?.starts == 1)
            let reboot = try await agent.conductor.outcome(of: agent.operate(.hardReboot, instance.id, generation: 4))
            #expect(reboot.failure == nil && reboot.vmState == .active)
        }
    }

    @Test("A resume that libvirt refuses leaves the guest suspended, with its memory")
    func refusedResume() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            try await agent.built(instance)
            _ = try await agent.conductor.outcome(of: agent.operate(.suspend, instance.id, generation: 2))
            agent.driver.fail(.resume, Failure(.hypervisor, "no memory"), calls: 1...1)
            let outcome = try await agent.conductor.outcome(of: agent.operate(.resume, instance.id, generation: 3))
            #expect(outcome.vmState == .suspended)
            let again = try await agent.conductor.outcome(of: agent.operate(.resume, instance.id, generation: 4))
            #expect(again.vmState == .active)
        }
    }

    @Test("A rebuild whose image cannot be had leaves the guest running, one that fails later is an error")
    func rebuildFailures() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            try await agent.built(instance)
            agent.conductor.script { $0.imageStatus = 404 }
            let early = try await agent.conductor.outcome(
                of: agent.operate(.rebuild(CommandCase.material), instance.id, generation: 2))
            #expect(early.failure?.kind == .imageUnacceptable && early.vmState == .active)
            #expect(agent.driver.host.state.domains[instance.id]?.starts == 1)
            #expect(try await agent.core.journal.guest(instance.id)?.specification.image == .test)
            agent.conductor.script { $0.imageStatus = 200 }
            agent.driver.fail(.createDisks, Failure(.storage, "the disk is full"))
            let late = try await agent.conductor.outcome(
                of: agent.operate(.rebuild(CommandCase.material), instance.id, generation: 3))
            #expect(late.failure?.message == "the disk is full" && late.vmState == .error)
            agent.driver.heal()
            let again = try await agent.conductor.outcome(
                of: agent.operate(.rebuild(CommandCase.material), instance.id, generation: 4))
            #expect(again.failure == nil && again.vmState == .active)
            try await agent.agrees(instance.id)
        }
    }

    @Test("A rescue that fails gives the guest its own disk back, and starts it if it ran", arguments: [false, true])
    func rescueFailure(wasStopped: Bool) async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            try await agent.built(instance)
            if wasStopped {
                _ = try await agent.conductor.outcome(of: agent.operate(.stop, instance.id, generation: 2))
            }
            let calls = agent.driver.count(.powerOn) + 1
            agent.driver.fail(.powerOn, Failure(.hypervisor, "no memory"), calls: calls...calls)
            let outcome = try await agent.conductor.outcome(
                of: agent.operate(.rescue(CommandCase.material), instance.id, generation: 3))
            #expect(outcome.failure?.message == "no memory")
            #expect(outcome.vmState == (wasStopped ? .stopped : .active))
            try await agent.settled()
            try await agent.agrees(instance.id)
            #expect(agent.driver.host.state.rescueDisks.isEmpty)
        }
    }

    @Test("A soft deletion that fails once the guest is off starts it again, if it ran", arguments: [false, true])
    func softDeletionFailure(wasStopped: Bool) async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            try await agent.built(instance)
            if wasStopped {
                _ = try await agent.conductor.outcome(of: agent.operate(.stop, instance.id, generation: 2))
            }
            let calls = agent.driver.count(.powerOff) + 1
            agent.driver.fail(
                .powerOff, Failure(.hypervisor, "too late"), calls: calls...calls, afterEffect: true)
            let outcome = try await agent.conductor.outcome(of: agent.operate(.softDelete, instance.id, generation: 3))
            #expect(outcome.failure?.message == "too late")
            #expect(outcome.vmState == (wasStopped ? .stopped : .active))
            try await agent.settled()
            try await agent.agrees(instance.id)
        }
    }

    @Test("A suspension that fails once the memory is saved lets the guest go on", arguments: [false, true])
    func suspensionFailure(isSaved: Bool) async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            try await agent.built(instance)
            agent.driver.fail(.suspend, Failure(.hypervisor, "too late"), calls: 1...1, afterEffect: isSaved)
            let outcome = try await agent.conductor.outcome(of: agent.operate(.suspend, instance.id, generation: 2))
            #expect(outcome.failure?.message == "too late")
            #expect(outcome.vmState == .active && outcome.powerState == .running)
            try await agent.settled()
            try await agent.agrees(instance.id)
        }
    }

    @Test("A reboot of a guest that is being rescued leaves it in rescue")
    func rescuedReboot() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            try await agent.built(instance)
            _ = try await agent.conductor.outcome(
                of: agent.operate(.rescue(CommandCase.material), instance.id, generation: 2))
            let outcome = try await agent.conductor.outcome(of: agent.operate(.hardReboot, instance.id, generation: 3))
            #expect(outcome.vmState == .rescued)
            try await agent.agrees(instance.id)
        }
    }

    @Test(
        "The password is the one of whom the image names",
        arguments: [
            ([:], "root"), (["os_type": "windows"], "Administrator"), (["os_type": "linux"], "root"),
            (["os_type": "windows", "os_admin_user": "boss"], "boss"), (["os_admin_user": ""], "root"),
        ] as [([String: String], String)])
    func administrator(properties: [String: String], user: String) {
        #expect(SetPassword.administrator(properties) == user)
    }

    @Test(
        "A guest has the time to shut down that its image asks for, at most an hour, or else the host's",
        arguments: [(nil, 60), ("5", 5), ("0", 0), ("-1", 60), ("soon", 60), ("99999", 3_600)] as [(String?, Int)])
    func grace(property: String?, seconds: Int) {
        var instance = Instance.test()
        instance.imageProperties = property.map { ["os_shutdown_timeout": $0] }
        #expect(ShutdownGrace.of(instance, default: .seconds(60)) == .seconds(seconds))
    }

    @Test("A NIC that the instance does not have cannot be removed; an address that is taken cannot be added")
    func refusedInterfaces() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            try await agent.built(instance)
            let detach = try await agent.conductor.outcome(
                of: agent.operate(.detachInterface("52:54:00:ff:ff:ff"), instance.id, generation: 2))
            #expect(detach.failure?.kind == .notFound)
            let taken = agent.driver.host.state.networks[instance.id]?.first?.ipv4Address
            let attach = try await agent.conductor.outcome(
                of: agent.operate(
                    .attachInterface(InterfaceOrder(ipv4Address: taken)), instance.id, generation: 3))
            #expect(attach.failure?.kind == .conflict)
            try await agent.agrees(instance.id)
        }
    }

    @Test("An added NIC is there after a hard reboot, a removed one is not")
    func interfacesStay() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            try await agent.built(instance)
            let attach = try await agent.conductor.outcome(
                of: agent.operate(.attachInterface(InterfaceOrder()), instance.id, generation: 2))
            let added = try #require(attach.interfaces?.last)
            #expect(attach.interfaces?.count == 2)
            _ = try await agent.conductor.outcome(of: agent.operate(.hardReboot, instance.id, generation: 3))
            #expect(agent.driver.host.state.domains[instance.id]?.plugged.contains(added.macAddress) == true)
            let detach = try await agent.conductor.outcome(
                of: agent.operate(.detachInterface(added.macAddress), instance.id, generation: 4))
            #expect(detach.interfaces?.count == 1)
            _ = try await agent.conductor.outcome(of: agent.operate(.hardReboot, instance.id, generation: 5))
            #expect(agent.driver.host.state.domains[instance.id]?.plugged.contains(added.macAddress) == false)
            try await agent.agrees(instance.id)
        }
    }
}
