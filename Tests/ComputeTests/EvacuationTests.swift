import Crypto
import Model
import RPC
import SQL
import SQLite
import Telemetry
import Testing

@testable import Compute

@Suite("A host's part in an evacuation", .timeLimit(.minutes(3)))
struct EvacuationTests {
    // MARK: - The destination

    @Test(
        "A guest is made afresh where its disks are not to be seen, and started from them where they are",
        arguments: [true, false])
    func takenIn(isShared: Bool) async throws {
        let bench = try Bench()
        var instance = Instance.test()
        instance.interfaces = [NetworkInterface(network: "default", macAddress: "fa:16:3e:00:00:07")]
        try await bench.run { [instance] agent in
            if isShared { agent.driver.host.change { _ = $0.disks.insert(instance.id) } }
            let evacuation = Evacuation(instance)
            try await agent.reserve(evacuation)
            let report = try await agent.takesIn(evacuation)
            #expect(report.failure == nil && report.vmState == .active && report.powerState == .running)
            #expect(report.sharesDisks == isShared && report.interfaces == instance.interfaces)
            try await agent.holdsExactly([instance])
            #expect(try await agent.core.journal.claims().allSatisfy { !$0.isMove })
            #expect(agent.driver.count(.createDisks) == (isShared ? 0 : 1))
            let password = agent.driver.host.state.configDrives[instance.id] ?? nil
            #expect(password == (isShared ? nil : "s3cret-word"))
            let text = try await agent.everyRow()
            #expect(!text.contains("s3cret-word") && !text.contains("dXNlci1kYXRhLXNlY3JldA=="))
        }
    }

    @Test("A guest that is to stay off is not started")
    func takenInOff() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            let evacuation = Evacuation(instance, vmState: .stopped)
            try await agent.reserve(evacuation)
            let report = try await agent.takesIn(evacuation)
            #expect(report.vmState == .stopped && report.powerState == .shutdown)
        }
    }

    @Test(
        "What fails anywhere leaves nothing here, and never touches the disks of a shared folder",
        arguments: [
            DriverCall.seesDisks, .prepareImage, .adoptNetwork, .beginTakingIn, .createDisks, .define, .powerOn,
        ],
        [true, false])
    func undone(failing call: DriverCall, isShared: Bool) async throws {
        guard !isShared || ![.beginTakingIn, .createDisks].contains(call) else { return }
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            if isShared { agent.driver.host.change { _ = $0.disks.insert(instance.id) } }
            let evacuation = Evacuation(instance)
            try await agent.reserve(evacuation)
            agent.driver.fail(call, Failure(.hypervisor, "Failed to get \"write\" lock"))
            let report = try await agent.takesIn(evacuation)
            #expect(report.failure?.message == "Failed to get \"write\" lock")
            agent.driver.heal()
            _ = try await agent.sends(evacuation, .release)
            _ = try await agent.conductor.outcome(of: evacuation.task.part("release"))
            #expect(agent.driver.host.state.disks == (isShared ? [instance.id] : []))
            #expect(agent.driver.host.state.domains.isEmpty)
            #expect(try await agent.core.journal.claims().isEmpty)
            #expect(try await agent.core.journal.guests().isEmpty)
            #expect(agent.core.tracker.snapshot.promised == .zero)
        }
    }

    @Test("What the caller says of the disks must be so", arguments: [true, false])
    func said(isShared: Bool) async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            if isShared { agent.driver.host.change { _ = $0.disks.insert(instance.id) } }
            let evacuation = Evacuation(instance)
            try await agent.reserve(evacuation)
            let report = try await agent.takesIn(evacuation, sharesDisks: !isShared)
            #expect(report.failure?.kind == .storage && report.failure?.message.contains("shared storage") == true)
        }
    }

    @Test("Without a promise, twice, and after it was given up, nothing is taken in")
    func refused() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            let evacuation = Evacuation(instance)
            let early = await #expect(throws: Failure.self) { try await agent.takesIn(evacuation) }
            #expect(early?.kind == .conflict)
            try await agent.reserve(evacuation)
            #expect(try await agent.takesIn(evacuation).failure == nil)
            // An answer that was lost: the same operation.
            #expect(try await agent.takesIn(evacuation).failure == nil)
            #expect(agent.driver.count(.powerOn) == 1)
            _ = try await agent.sends(evacuation, .release)
            _ = try await agent.conductor.outcome(of: evacuation.task.part("release"))
            try await agent.holdsExactly([])
        }
    }

    @Test("An agent that dies in the middle goes on when it starts anew")
    func crashed() async throws {
        let (folder, host) = (try Folder(), FakeHost())
        let instance = Instance.test()
        let evacuation = Evacuation(instance)
        let first = try Bench(host: host, folder: folder)
        let copy = try await first.run { agent in
            try await agent.reserve(evacuation)
            agent.driver.hold(.define)
            try await agent.orders(evacuation)
            await agent.driver.reached(.define)
            let copy = try Folder(crashed: folder)
            agent.driver.release(.define)
            return copy
        }
        host.change { $0.domains = [:] }
        try await Bench(host: host, folder: copy).run { agent in
            let report = try await agent.conductor.outcome(of: evacuation.task.part("take_in"))
            #expect(report.failure == nil && report.sharesDisks == false)
            try await agent.holdsExactly([instance])
        }
    }

    // MARK: - The host that returns

    @Test(
        "A host that returns removes what was evacuated before it beats; disks that are the new guest's stay",
        arguments: [true, false, nil] as [Bool?])
    func returned(sharesDisks: Bool?) async throws {
        let (gone, stays) = (Instance.test(), Instance.test())
        let (folder, host) = try await away(gone, stays)
        let bench = try Bench(host: host, folder: folder)
        let migration = MigrationID(makeUUID())
        bench.conductor.script {
            $0.evacuated = [
                .init(instance: gone.id, migration: migration, generation: 2, isGone: true, sharesDisks: sharesDisks)
            ]
        }
        bench.driver.hold(.undefine)
        try await bench.run { agent in
            await agent.driver.reached(.undefine)
            #expect(agent.conductor.heard.heartbeats.isEmpty && agent.conductor.heard.confirmed.isEmpty)
            agent.driver.release(.undefine)
            try await agent.conductor.until { !$0.heartbeats.isEmpty }
            #expect(agent.conductor.heard.confirmed == [migration])
            #expect(host.state.domains[gone.id] == nil && host.state.networks[gone.id] == nil)
            #expect(host.state.disks == (sharesDisks == false ? [stays.id] : [stays.id, gone.id]))
            #expect(host.state.domains[stays.id]?.powerState == .running)
            #expect(try await agent.core.journal.guests().map(\.id) == [stays.id])
            #expect(agent.core.tracker.snapshot.promised == stays.resources)
            // What is older than the evacuation counts here no more.
            let late = await #expect(throws: Failure.self) { _ = try await agent.delete(gone.id, generation: 1) }
            #expect(late?.kind == .conflict)
        }
    }

    @Test("Nothing else is evidence: a guest that this host has had a newer command for stays, and is answered for")
    func newer() async throws {
        let (known, other) = (Instance.test(), Instance.test())
        let (folder, host) = try await away(known, other)
        let bench = try Bench(host: host, folder: folder)
        let migration = MigrationID(makeUUID())
        bench.conductor.script {
            $0.evacuated = [
                .init(instance: known.id, migration: migration, generation: 1, isGone: true, sharesDisks: false)
            ]
        }
        try await bench.run { agent in
            try await agent.conductor.until { !$0.heartbeats.isEmpty }
            #expect(agent.conductor.heard.confirmed == [migration])
            try await agent.holdsExactly([known, other])
            #expect(host.state.domains[known.id]?.powerState == .running)
        }
    }

    @Test("While an evacuation is not decided its guest is off, its disks stay, and the host does not beat")
    func undecided() async throws {
        let (held, other) = (Instance.test(), Instance.test())
        let (folder, host) = try await away(held, other)
        let bench = try Bench(host: host, folder: folder)
        let migration = MigrationID(makeUUID())
        bench.conductor.script {
            $0.evacuated = [
                .init(instance: held.id, migration: migration, generation: 2, isGone: false, sharesDisks: nil)
            ]
        }
        try await bench.run { agent in
            while host.state.domains[held.id]?.powerState != .shutdown { try await Task.sleep(for: .milliseconds(10)) }
            try await agent.settled()
            #expect(agent.conductor.heard.heartbeats.isEmpty && host.state.disks.contains(held.id))
            // It has failed: the guest is this host's.
            agent.conductor.script { $0.evacuated = [] }
            try await agent.conductor.until { !$0.heartbeats.isEmpty }
            try await agent.holdsExactly([held, other])
            #expect(try await agent.core.journal.guest(held.id)?.vmState == .stopped)
            #expect(host.state.domains[other.id]?.powerState == .running)
        }
    }

    @Test("After a boot no guest is started that was evacuated, and none before a conductor has said so")
    func booted() async throws {
        let (gone, stays) = (Instance.test(), Instance.test())
        let (folder, host) = try await away(gone, stays, hasBooted: true)
        let bench = try Bench(
            host: host, folder: folder, settings: ["DEFAULT.resume_guests_state_on_host_boot": "true"])
        bench.conductor.script {
            $0.evacuated = [
                .init(
                    instance: gone.id, migration: MigrationID(makeUUID()), generation: 2, isGone: true,
                    sharesDisks: false)
            ]
        }
        let url = bench.conductor.url
        await bench.conductor.stop()
        let conductor = bench.conductor
        let start = Task {
            // Long enough for guests to be started by an agent that does not wait.
            try await Task.sleep(for: .milliseconds(600))
            let states = host.state.domains.values.map(\.powerState)
            try conductor.start()
            return states
        }
        try await bench.run { agent in
            try await agent.conductor.until { !$0.heartbeats.isEmpty }
            try await agent.settled()
            #expect(host.state.domains[gone.id] == nil)
            #expect(host.state.domains[stays.id]?.powerState == .running)
            #expect(agent.driver.count(.powerOn) == 1)
        }
        #expect(try await start.value.allSatisfy { $0 == .shutdown })
        #expect(bench.conductor.url == url)
    }

    @Test("A host that is given up while it runs is told with its next beat", arguments: [true, false])
    func givenUp(isCutOff: Bool) async throws {
        let instance = Instance.test()
        let bench = try Bench()
        try await bench.run { agent in
            try await agent.built(instance)
            try await agent.conductor.until { !$0.heartbeats.isEmpty }
            let migration = MigrationID(makeUUID())
            if isCutOff { await agent.conductor.stop() }
            agent.conductor.script { script in
                script.mustAnswer = !isCutOff
                script.evacuated = [
                    .init(instance: instance.id, migration: migration, generation: 2, isGone: true, sharesDisks: false)
                ]
            }
            if isCutOff {
                // Only who was not heard asks by itself.
                try await Task.sleep(for: .milliseconds(500))
                try agent.conductor.start()
            }
            let before = agent.conductor.heard.heartbeats.count
            try await agent.conductor.until { $0.confirmed == [migration] && $0.heartbeats.count > before }
            try await agent.holdsExactly([])
        }
    }

    @Test("What cannot be removed keeps the host from beating until it can")
    func stuck() async throws {
        let (gone, stays) = (Instance.test(), Instance.test())
        let (folder, host) = try await away(gone, stays)
        let bench = try Bench(host: host, folder: folder)
        bench.conductor.script {
            $0.evacuated = [
                .init(
                    instance: gone.id, migration: MigrationID(makeUUID()), generation: 2, isGone: true,
                    sharesDisks: false)
            ]
        }
        bench.driver.fail(.powerOff, Failure(.hypervisor, "libvirt is away"))
        try await bench.run { agent in
            while agent.driver.count(.powerOff) < 2 { try await Task.sleep(for: .milliseconds(10)) }
            #expect(agent.conductor.heard.heartbeats.isEmpty)
            agent.driver.heal()
            try await agent.conductor.until { !$0.heartbeats.isEmpty }
            try await agent.holdsExactly([stays])
        }
    }

    /// Two guests on a host whose agent has ended.
    private func away(
        _ first: Instance, _ second: Instance, hasBooted: Bool = false
    ) async throws -> (Folder, FakeHost) {
        let (folder, host) = (try Folder(), FakeHost())
        try await Bench(host: host, folder: folder).run { agent in
            try await agent.built(first)
            try await agent.built(second)
            try await agent.settled()
            if hasBooted {
                try await agent.core.journal.database.write { try $0.setSetting("boot_id", "an-earlier-one") }
            }
        }
        if hasBooted {
            host.change { state in
                for id in state.domains.keys { state.domains[id]?.powerState = .shutdown }
            }
        }
        return (folder, host)
    }
}

/// An evacuation as a conductor carries it through.
private struct Evacuation: Sendable {
    let migration = MigrationID(makeUUID())
    let task = TaskID(makeUUID())
    let instance: Instance
    let vmState: VMState

    init(_ instance: Instance, vmState: VMState = .active) { (self.instance, self.vmState) = (instance, vmState) }

    func header(_ part: String) -> CommandHeader {
        CommandHeader(task: task.part(part), instance: instance.id, fence: Fence(generation: 10, epoch: 0))
    }
}

extension AgentHandle {
    fileprivate func sends(_ evacuation: Evacuation, _ order: MoveOrder) async throws -> RPCConfirmation {
        try await client.call(
            MoveGuest.self,
            .init(
                header: evacuation.header(order.name), migration: evacuation.migration, order: order,
                instance: evacuation.instance, vmState: evacuation.vmState, isSameHost: false))
    }

    fileprivate func reserve(_ evacuation: Evacuation) async throws {
        _ = try await sends(evacuation, .reserve(.test))
        let report = try await conductor.outcome(of: evacuation.task.part("reserve"))
        try #require(report.failure == nil)
    }

    fileprivate func orders(_ evacuation: Evacuation, sharesDisks: Bool? = nil) async throws {
        _ = try await client.call(
            TakeInGuest.self,
            .init(
                header: evacuation.header("take_in"), migration: evacuation.migration, instance: evacuation.instance,
                image: .test, adminPassword: "s3cret-word", vmState: evacuation.vmState, sharesDisks: sharesDisks))
    }

    /// Sends the order and waits for its end.
    fileprivate func takesIn(_ evacuation: Evacuation, sharesDisks: Bool? = nil) async throws -> ReportOperation.Params
    {
        try await orders(evacuation, sharesDisks: sharesDisks)
        return try await conductor.outcome(of: evacuation.task.part("take_in"))
    }
}
