import Crypto
import HTTP
import Model
import RPC
import Telemetry
import Testing

@testable import Compute

@Suite("A host's part in a move", .timeLimit(.minutes(3)))
struct MoveTests {
    @Test("A guest is set aside, taken over with its address and its state, and forgotten where it was")
    func moved() async throws {
        let (source, destination) = (try Bench(), try Bench())
        let instance = Instance.test()
        try await source.run { from in
            try await from.built(instance)
            let known = try await from.record(instance)
            try await destination.run { to in
                var move = Move(known)
                try await to.ends(&move, .reserve(.test))
                #expect(to.core.tracker.snapshot.promised == instance.resources)
                #expect(try await to.core.journal.guests().isEmpty)

                try await from.ends(&move, .setAside)
                #expect(from.driver.host.state.setAside == [instance.id: move.migration])
                #expect(from.driver.host.state.domains[instance.id]?.powerState == .shutdown)
                #expect(try await from.core.journal.guests().isEmpty)
                // Its room is kept for the way back, also by the audit.
                try await from.core.audit()
                #expect(from.core.tracker.snapshot.promised == instance.resources)

                let report = try await to.ends(&move, .takeOver(.test, from: move.source(from)))
                #expect(report.vmState == .active && report.powerState == .running)
                #expect(report.interfaces == known.interfaces)
                try await to.holdsExactly([known])
                #expect(try await to.core.journal.claims().allSatisfy { !$0.isMove })
                let text = try await to.everyRow()
                #expect(!text.contains(move.source(from).ticket))

                try await from.ends(&move, .forget)
                try await from.holdsExactly([])
                // Asked for again after an answer that was lost: nothing happens twice.
                try await from.ends(&move, .forget)
                try await to.holdsExactly([known])
            }
        }
    }

    @Test("A move that is taken back leaves nothing at the destination, and the guest runs where it was")
    func takenBack() async throws {
        let (source, destination) = (try Bench(), try Bench())
        let instance = Instance.test()
        try await source.run { from in
            try await from.built(instance)
            let known = try await from.record(instance)
            try await destination.run { to in
                var move = Move(known)
                try await to.ends(&move, .reserve(.test))
                try await from.ends(&move, .setAside)
                try await to.ends(&move, .takeOver(.test, from: move.source(from)))
                try await to.ends(&move, .release)
                try await to.holdsExactly([])
                let report = try await from.ends(&move, .takeBack)
                #expect(report.vmState == .active && report.powerState == .running)
                #expect(report.interfaces == known.interfaces)
                try await from.holdsExactly([known])
                #expect(from.driver.host.state.setAside.isEmpty)
            }
        }
    }

    @Test(
        "A take-over that fails anywhere is undone, and the source has its guest again",
        arguments: [DriverCall.prepareImage, .adoptNetwork, .takeOverDisks, .define, .powerOn])
    func undone(failing call: DriverCall) async throws {
        let (source, destination) = (try Bench(), try Bench())
        let instance = Instance.test()
        try await source.run { from in
            try await from.built(instance)
            let known = try await from.record(instance)
            try await destination.run { to in
                var move = Move(known)
                try await to.ends(&move, .reserve(.test))
                try await from.ends(&move, .setAside)
                to.driver.fail(call, Failure(.hypervisor, "it would not"))
                let report = try await to.asks(&move, .takeOver(.test, from: move.source(from)))
                #expect(report.failure?.message == "it would not")
                to.driver.heal()
                try await to.ends(&move, .release)
                try await to.holdsExactly([])
                try await from.ends(&move, .takeBack)
                try await from.holdsExactly([known])
                #expect(from.driver.host.state.domains[instance.id]?.powerState == .running)
            }
        }
    }

    @Test("A guest that was off is off afterwards, on either way", arguments: [true, false])
    func stopped(isConfirmed: Bool) async throws {
        let (source, destination) = (try Bench(), try Bench())
        let instance = Instance.test()
        try await source.run { from in
            try await from.built(instance)
            _ = try await from.conductor.outcome(of: from.operate(.stop, instance.id, generation: 2))
            let known = try await from.record(instance)
            try await destination.run { to in
                var move = Move(known, vmState: .stopped)
                try await to.ends(&move, .reserve(.test))
                try await from.ends(&move, .setAside)
                let there = try await to.ends(&move, .takeOver(.test, from: move.source(from)))
                #expect(there.vmState == .stopped && there.powerState == .shutdown)
                guard !isConfirmed else { return _ = try await from.ends(&move, .forget) }
                try await to.ends(&move, .release)
                let back = try await from.ends(&move, .takeBack)
                #expect(back.vmState == .stopped && back.powerState == .shutdown)
            }
        }
    }

    @Test("On one host the guest has both rooms until the resize is decided", arguments: [true, false])
    func sameHost(isConfirmed: Bool) async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            try await agent.built(instance)
            let known = try await agent.record(instance)
            var larger = known
            larger.flavor.memoryMiB += 512
            larger.flavor.vcpus += 1
            let wanted = larger
            var move = Move(wanted, isSameHost: true)
            try await agent.ends(&move, .reserve(.test))
            #expect(agent.core.tracker.snapshot.promised == known.resources + wanted.resources)
            try await agent.ends(&move, .setAside)
            let report = try await agent.ends(&move, .takeOver(.test, from: move.source(agent)))
            #expect(report.powerState == .running && report.interfaces == known.interfaces)
            #expect(agent.core.tracker.snapshot.promised == known.resources + wanted.resources)
            try await agent.core.audit()
            #expect(agent.core.tracker.snapshot.promised == known.resources + wanted.resources)
            if isConfirmed {
                try await agent.ends(&move, .forget)
                try await agent.holdsExactly([wanted])
                #expect(try await agent.record(instance).flavor == wanted.flavor)
            } else {
                try await agent.ends(&move, .release)
                try await agent.ends(&move, .takeBack)
                try await agent.holdsExactly([known])
                #expect(try await agent.record(instance).flavor == known.flavor)
                #expect(agent.driver.host.state.domains[instance.id]?.powerState == .running)
            }
            #expect(agent.driver.host.state.setAside.isEmpty)
        }
    }

    @Test("A move that has only reserved room is dropped without a touch to the guest", arguments: [true, false])
    func reservedOnly(isSameHost: Bool) async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            if isSameHost { try await agent.built(instance) }
            let known = isSameHost ? try await agent.record(instance) : instance
            var move = Move(known, isSameHost: isSameHost)
            try await agent.ends(&move, .reserve(.test))
            let offs = agent.driver.count(.powerOff)
            // Disks that are there under the instance's name are not this migration's.
            if isSameHost {
                try await agent.ends(&move, .takeBack)
                #expect(agent.driver.count(.powerOff) == offs)
                try await agent.holdsExactly([known])
            } else {
                agent.driver.host.change { _ = $0.disks.insert(instance.id) }
                try await agent.ends(&move, .release)
                #expect(agent.driver.host.state.disks == [instance.id])
                #expect(agent.core.tracker.snapshot.promised == .zero)
            }
        }
    }

    @Test("A take-over that is sent again, by a later conductor, is the same one: the guest runs on")
    func repeatedTakeOver() async throws {
        let (source, destination) = (try Bench(), try Bench())
        let instance = Instance.test()
        try await source.run { from in
            try await from.built(instance)
            let known = try await from.record(instance)
            try await destination.run { to in
                var move = Move(known)
                try await to.ends(&move, .reserve(.test))
                try await from.ends(&move, .setAside)
                try await to.ends(&move, .takeOver(.test, from: move.source(from)))
                let reports = to.conductor.heard.operations.count
                try await to.again(move, .takeOver(.test, from: move.source(from)), epoch: 1)
                let heard = try await to.conductor.until { $0.operations.count > reports }
                #expect(heard.operations.last?.failure == nil)
                #expect(heard.operations.last?.header.fence.epoch == 1)
                try await to.holdsExactly([known])
            }
        }
    }

    @Test("A release leaves a guest alone that has not come by its migration", arguments: [true, false])
    func foreignRelease(isSameHost: Bool) async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            try await agent.built(instance)
            let known = try await agent.record(instance)
            var move = Move(known, isSameHost: isSameHost)
            if isSameHost { try await agent.ends(&move, .reserve(.test)) }
            try await agent.ends(&move, .release)
            try await agent.holdsExactly([known])
            #expect(agent.driver.host.state.domains[instance.id]?.powerState == .running)
            #expect(agent.core.tracker.snapshot.promised == known.resources)
        }
    }

    @Test("A part that was late on its way comes after the one that gave the move up, and is refused")
    func late() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            try await agent.built(instance)
            let move = Move(try await agent.record(instance))
            try await agent.again(move, .takeBack, part: "take_back")
            _ = try await agent.conductor.outcome(of: move.task.part("take_back"))
            let failure = await #expect(throws: Failure.self) {
                try await agent.again(move, .setAside, part: "set_aside")
            }
            #expect(failure?.kind == .conflict)
            try await agent.holdsExactly([move.instance])
            #expect(agent.driver.host.state.domains[instance.id]?.powerState == .running)
        }
    }

    @Test("A host without room refuses, and promises nothing")
    func noRoom() async throws {
        let bench = try Bench()
        let instance = Instance.test(memoryMiB: 1_000_000)
        try await bench.run { agent in
            let failure = await #expect(throws: Failure.self) {
                var move = Move(instance)
                _ = try await agent.asks(&move, .reserve(.test))
            }
            #expect(failure?.kind == .insufficientResources)
            #expect(agent.core.tracker.snapshot.promised == .zero)
            let claims = try await agent.core.journal.claims()
            #expect(claims.isEmpty)
        }
    }

    @Test("Nothing is taken over without a promise, and nothing set aside that is not here")
    func outOfOrder() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            var first = Move(instance)
            let source = first.source(agent)
            let early = await #expect(throws: Failure.self) {
                _ = try await agent.asks(&first, .takeOver(.test, from: source))
            }
            #expect(early?.kind == .conflict)
            for order in [MoveOrder.setAside, .takeBack] {
                var move = Move(instance)
                let missing = await #expect(throws: Failure.self) { _ = try await agent.asks(&move, order) }
                #expect(missing?.kind == .notFound)
            }
            try await agent.holdsExactly([])
        }
    }

    @Test("Set-aside disks are given for the migration's own ticket alone")
    func tickets() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            try await agent.built(instance)
            var move = Move(try await agent.record(instance))
            try await agent.ends(&move, .setAside)
            let good = move.source(agent)
            let http = HTTPClient()
            func files(_ ticket: String, migration: MigrationID, host: String) -> AgentMovedFiles {
                AgentMovedFiles(
                    source: MoveSource(host: good.host, url: good.url, ticket: ticket), migration: migration,
                    instance: instance.id, host: HostName(host), http: http, allowsPlaintext: false)
            }
            let mine = files(good.ticket, migration: move.migration, host: "host1")
            let list = try await mine.list()
            #expect(list.map(\.name) == ["disk"])
            let bytes = try await mine.read("disk", at: 4, count: 4)
            #expect(bytes == Array("disk".utf8))
            for bad in [
                files("", migration: move.migration, host: "host1"),
                files(String(good.ticket.reversed()), migration: move.migration, host: "host1"),
                files(good.ticket, migration: MigrationID(makeUUID()), host: "host1"),
                files(good.ticket, migration: move.migration, host: "host2"),
            ] {
                let failure = await #expect(throws: Failure.self) { _ = try await bad.list() }
                #expect(failure?.kind == .unauthenticated)
            }
            for (offset, count) in [(Int64(-1), 1), (0, 0), (0, 5 << 20), (1_000, 10)] {
                await #expect(throws: Failure.self) { _ = try await mine.read("disk", at: offset, count: count) }
            }
            await #expect(throws: Failure.self) { _ = try await mine.read("../../etc/passwd", at: 0, count: 4) }
            await http.shutdown()
        }
    }

    @Test("A deletion in the middle of a move leaves nothing on either host")
    func deleted() async throws {
        let (source, destination) = (try Bench(), try Bench())
        let instance = Instance.test()
        try await source.run { from in
            try await from.built(instance)
            let known = try await from.record(instance)
            try await destination.run { to in
                var move = Move(known)
                try await to.ends(&move, .reserve(.test))
                try await from.ends(&move, .setAside)
                to.driver.hold(.takeOverDisks)
                _ = try await to.sends(&move, .takeOver(.test, from: move.source(from)))
                await to.driver.reached(.takeOverDisks)
                for agent in [to, from] {
                    let removal = try await agent.delete(instance.id, generation: 99)
                    #expect(try await agent.conductor.outcome(of: removal).failure == nil)
                    try await agent.settled()
                    try await agent.holdsExactly([])
                }
            }
        }
    }

    @Test("An agent that starts anew knows what it has set aside")
    func restarted() async throws {
        let folder = try Folder()
        let host = FakeHost()
        let instance = Instance.test()
        let first = try Bench(host: host, folder: folder)
        let move = try await first.run { agent in
            try await agent.built(instance)
            var move = Move(try await agent.record(instance))
            try await agent.ends(&move, .setAside)
            try await agent.settled()
            return move
        }
        try await Bench(host: host, folder: folder).run { [move] agent in
            #expect(agent.core.tracker.snapshot.promised == instance.resources)
            #expect(await agent.core.watcher.orphans.isEmpty)
            var move = move
            try await agent.ends(&move, .takeBack)
            #expect(host.state.domains[instance.id]?.powerState == .running)
            try await agent.holdsExactly([instance])
        }
    }
}

/// A migration as a conductor carries it through.
private struct Move: Sendable {
    let migration = MigrationID(makeUUID())
    let task = TaskID(makeUUID())
    let instance: Instance
    let vmState: VMState
    let isSameHost: Bool
    var parts = 0

    init(_ instance: Instance, vmState: VMState = .active, isSameHost: Bool = false) {
        (self.instance, self.vmState, self.isSameHost) = (instance, vmState, isSameHost)
    }

    func source(_ agent: AgentHandle) -> MoveSource {
        let hash = Hex.encode(digest(.sha256, of: Array(FakeConductor.conductorSecret.utf8)))
        return MoveSource(
            host: HostName("host1"), url: agent.url,
            ticket: MoveTicket.make(
                conductorSecretHash: hash, migration: migration, instance: instance.id, destination: HostName("host1")))
    }
}

extension AgentHandle {
    fileprivate var url: String { "http://127.0.0.1:\(port)" }

    fileprivate func record(_ instance: Instance) async throws -> Instance {
        let guest = try #require(try await core.journal.guest(instance.id))
        var record = guest.specification.instance
        record.interfaces = guest.specification.interfaces
        return record
    }

    /// Sends the next part of a move.
    fileprivate func sends(_ move: inout Move, _ order: MoveOrder) async throws -> TaskID {
        move.parts += 1
        let task = move.task.part("\(move.parts)")
        let header = CommandHeader(
            task: task, instance: move.instance.id, fence: Fence(generation: 10, epoch: 0))
        _ = try await client.call(
            MoveGuest.self,
            .init(
                header: header, migration: move.migration, order: order, instance: move.instance,
                vmState: move.vmState, isSameHost: move.isSameHost))
        return task
    }

    /// Sends the last part once more, or one of a name.
    fileprivate func again(_ move: Move, _ order: MoveOrder, part: String? = nil, epoch: Int64 = 0) async throws {
        let header = CommandHeader(
            task: move.task.part(part ?? "\(move.parts)"), instance: move.instance.id,
            fence: Fence(generation: 10, epoch: epoch))
        _ = try await client.call(
            MoveGuest.self,
            .init(
                header: header, migration: move.migration, order: order, instance: move.instance,
                vmState: move.vmState, isSameHost: move.isSameHost))
    }

    /// Sends it and waits for its end.
    @discardableResult
    fileprivate func asks(_ move: inout Move, _ order: MoveOrder) async throws -> ReportOperation.Params {
        try await conductor.outcome(of: sends(&move, order))
    }

    /// The same for what succeeds.
    @discardableResult
    fileprivate func ends(
        _ move: inout Move, _ order: MoveOrder, sourceLocation: SourceLocation = #_sourceLocation
    ) async throws -> ReportOperation.Params {
        let report = try await asks(&move, order)
        try #require(report.failure == nil, "\(order.name)", sourceLocation: sourceLocation)
        return report
    }
}
