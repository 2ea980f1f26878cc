import Crypto
import Glibc
import HTTP
import Model
import RPC
import SQL
import SQLite
import Tasks
import Telemetry
import Testing

@testable import Compute

@Suite("A host's part in a live migration", .timeLimit(.minutes(3)))
struct LiveMigrationTests {
    @Test(
        "A guest goes over as it is, running or paused, and nothing of it stays", arguments: [VMState.active, .paused])
    func whole(vmState: VMState) async throws {
        try await onTwoHosts { from, to, known in
            if vmState == .paused { try await from.commanded(.pause, known.id) }
            let power: PowerState = vmState == .active ? .running : .paused
            var move = LiveMove(known, vmState: vmState)
            try await to.ends(&move, .reserve(.test))
            #expect(to.core.tracker.snapshot.promised == known.resources)
            try await from.ends(&move, .offer)
            #expect(from.core.gates.isOffered(known.id, for: move.migration))
            try await to.ends(&move, move.receive(from: from))
            #expect(to.core.gates.answer(known.id, of: move.migration)?.port != nil)
            #expect(from.power(known) == power && to.power(known) == nil)

            try await from.ends(&move, move.send(to: to))
            #expect(from.power(known) == nil && to.power(known) == power)
            #expect(try await from.core.journal.guests().isEmpty)
            #expect(try await to.core.journal.guests().isEmpty)
            #expect(try await from.aside(known)?.migration == move.migration)
            #expect(!from.core.gates.isOffered(known.id, for: move.migration))
            // Both rooms are kept until the guest has arrived, also by the audit.
            for agent in [from, to] {
                try await agent.core.audit()
                #expect(agent.core.tracker.snapshot.promised == known.resources)
            }

            let report = try await to.ends(&move, .arrive(.test))
            #expect(report.vmState == vmState && report.powerState == power)
            #expect(report.interfaces == known.interfaces)
            try await to.has(known, vmState, power)
            #expect(try await to.core.journal.claims().allSatisfy { !$0.isMove })
            #expect(try await to.core.journal.guest(known.id)?.specification.arrivedBy == move.migration)
            #expect(to.core.gates.answer(known.id, of: move.migration) == nil)
            // It never started anew.
            #expect(to.driver.host.state.domains[known.id]?.starts == 0)

            for _ in 1...2 {
                try await from.ends(&move, .leave)
                try await from.holdsExactly([])
            }
            try await to.has(known, vmState, power)
            let ticket = move.address(to).ticket
            for agent in [from, to] {
                let text = try await agent.everyRow()
                #expect(!text.contains(ticket))
            }
        }
    }

    @Test("Only a guest that is on and here is offered")
    func offers() async throws {
        try await onTwoHosts { from, to, known in
            try await from.commanded(.stop, known.id)
            var move = LiveMove(known, vmState: .stopped)
            let report = try await from.asks(&move, .offer)
            #expect(report.failure?.kind == .conflict)
            #expect(!from.core.gates.isOffered(known.id, for: move.migration))
            try await from.has(known, .stopped, .shutdown)
            for order in [MoveOrder.offer, move.send(to: from)] {
                let failure = await #expect(throws: Failure.self) { _ = try await to.asks(&move, order) }
                #expect(failure?.kind == .notFound)
            }
        }
    }

    @Test("Nothing comes in, or arrives, where no room was promised to it")
    func unpromised() async throws {
        try await onTwoHosts { from, to, known in
            var move = LiveMove(known)
            try await from.ends(&move, .offer)
            for order in [move.receive(from: from), .arrive(.test)] {
                let failure = await #expect(throws: Failure.self) { _ = try await to.asks(&move, order) }
                #expect(failure?.kind == .conflict)
            }
            #expect(to.driver.count(.receiveGuest) == 0)
            try await to.holdsExactly([])
        }
    }

    @Test("A destination asks in vain for what is not offered")
    func unoffered() async throws {
        try await onTwoHosts { from, to, known in
            var move = LiveMove(known)
            try await to.ends(&move, .reserve(.test))
            #expect(try await to.asks(&move, move.receive(from: from)).failure?.kind == .notFound)
            #expect(to.core.gates.answer(known.id, of: move.migration) == nil)
            try await to.ends(&move, .release)
            try await to.holdsExactly([])
        }
    }

    @Test(
        "What fails while the destination makes itself ready is undone, and the guest runs where it is",
        arguments: [DriverCall.prepareImage, .adoptNetwork, .receiveGuest])
    func unready(failing call: DriverCall) async throws {
        try await onTwoHosts { from, to, known in
            var move = LiveMove(known)
            try await to.ends(&move, .reserve(.test))
            try await from.ends(&move, .offer)
            to.driver.fail(call, Failure(.hypervisor, "it would not"), afterEffect: true)
            #expect(try await to.asks(&move, move.receive(from: from)).failure?.message == "it would not")
            #expect(to.core.gates.answer(known.id, of: move.migration) == nil)
            to.driver.heal()
            try await to.ends(&move, .release)
            try await to.holdsExactly([])
            try await from.has(known)
        }
    }

    @Test("A guest stays where it is when the other host is not ready for it, or not there", arguments: [true, false])
    func notReceived(isThere: Bool) async throws {
        try await onTwoHosts { from, to, known in
            var move = LiveMove(known)
            try await to.ends(&move, .reserve(.test))
            try await from.ends(&move, .offer)
            var address = move.address(to)
            if !isThere { address.url = "http://127.0.0.1:1" }
            let failure = try await from.asks(&move, .send(to: address, LiveRequest())).failure
            #expect(failure?.kind == (isThere ? .notFound : .unreachable))
            #expect(failure?.isRetriable == false)
            #expect(from.driver.count(.sendGuest) == 0)
            try await from.has(known)
            #expect(try await from.core.journal.guest(known.id)?.specification.copiedBy == nil)
            #expect(!from.core.gates.isOffered(known.id, for: move.migration))
            try await to.ends(&move, .release)
            try await to.holdsExactly([])
        }
    }

    @Test("A destination that has started anew takes no guest that it was ready for before")
    func restartedDestination() async throws {
        let (source, folder, host) = (try Bench(settings: ports), try Folder(), FakeHost())
        let instance = Instance.test()
        try await source.run { from in
            try await from.built(instance)
            let known = try await from.record(instance)
            let move = try await Bench(host: host, folder: folder, settings: ports).run { to in
                var move = LiveMove(known)
                try await to.receives(&move, from: from)
                try await to.settled()
                return move
            }
            try await Bench(host: host, folder: folder, settings: ports).run { [move] to in
                var move = move
                #expect(to.core.tracker.snapshot.promised == known.resources)
                #expect(try await from.asks(&move, move.send(to: to)).failure?.kind == .notFound)
                try await from.has(known)
                try await to.ends(&move, .release)
                try await to.holdsExactly([])
            }
        }
    }

    @Test("A sending that fails is tried again where that may help; else the guest stays", arguments: [true, false])
    func failedSending(isRetriable: Bool) async throws {
        try await onTwoHosts { from, to, known in
            var move = LiveMove(known)
            try await to.receives(&move, from: from)
            from.driver.fail(
                .sendGuest, Failure(.hypervisor, "it would not", isRetriable: isRetriable), calls: 1...1)
            let failure = try await from.asks(&move, move.send(to: to)).failure
            #expect(from.driver.count(.sendGuest) == (isRetriable ? 2 : 1))
            guard !isRetriable else {
                #expect(failure == nil)
                return try await to.takes(&move, from: from)
            }
            #expect(failure?.message == "it would not")
            #expect(!from.core.gates.isOffered(known.id, for: move.migration))
            try await from.has(known)
            try await to.ends(&move, .release)
            try await to.holdsExactly([])
        }
    }

    @Test("A guest that the other host does not take stays, and goes over when it is asked for again")
    func notTaken() async throws {
        try await onTwoHosts { from, to, known in
            var move = LiveMove(known)
            try await to.receives(&move, from: from)
            to.driver.host.change { _ = $0.takenOver.removeValue(forKey: known.id) }
            #expect(try await from.asks(&move, move.send(to: to)).failure?.kind == .hypervisor)
            try await from.has(known)
            to.driver.host.change { [migration = move.migration] in $0.takenOver[known.id] = migration }
            try await from.ends(&move, .offer)
            try await from.ends(&move, move.send(to: to))
            try await to.takes(&move, from: from)
        }
    }

    @Test("A guest that has left is sent, whatever the call for it says", arguments: [true, false])
    func lostWord(isRetriable: Bool) async throws {
        try await onTwoHosts { from, to, known in
            var move = LiveMove(known)
            try await to.receives(&move, from: from)
            from.driver.fail(
                .guestLeaves, Failure(.hypervisor, "no word of it", isRetriable: isRetriable), calls: 1...1,
                afterEffect: true)
            try await from.ends(&move, move.send(to: to))
            #expect(from.driver.count(.sendGuest) == 1)
            #expect(try await from.aside(known)?.migration == move.migration)
            try await to.takes(&move, from: from)
        }
    }

    @Test("The guest goes on when the source's process has ended, before its hypervisor says so; then it has left")
    func goesOnEarly() async throws {
        try await onTwoHosts { from, to, known in
            var move = LiveMove(known)
            try await to.receives(&move, from: from)
            from.driver.fail(.sendEnds, Failure(.conflict, "it went off while it was sent"))
            from.driver.hold(.sendEnds)
            let task = try await from.sends(&move, move.send(to: to))
            await from.driver.reached(.sendEnds)
            #expect(to.power(known) == .running)
            from.driver.release(.sendEnds)
            #expect(try await from.conductor.outcome(of: task).failure == nil)
            #expect(from.driver.count(.departure) == 0, "nobody asks libvirt, which may say that it is only off")
            try await to.takes(&move, from: from)
        }
    }

    @Test(
        "Of a guest that is off, and of which the source's hypervisor has forgotten that it left, the destination knows",
        arguments: [true, false], [true, false])
    func forgottenDeparture(hasArrived: Bool, isAway: Bool) async throws {
        try await onTwoHosts { from, to, known in
            var move = LiveMove(known)
            try await to.receives(&move, from: from)
            let was = try #require(from.driver.host.state.domains[known.id])
            // Nobody has had the guest go on there, so only that it is there tells.
            to.driver.fail(.goOn, Failure(.hypervisor, "it would not"), calls: 1...1)
            if isAway { to.driver.fail(.hasArrived, Failure(.unreachable, "who knows"), calls: 1...2) }
            from.driver.hold(.sendEnds)
            from.driver.fail(
                .sendEnds, Failure(.unreachable, "libvirt was started anew", isRetriable: true), calls: 1...1)
            let task = try await from.sends(&move, move.send(to: to))
            await from.driver.reached(.sendEnds)
            from.driver.host.change { state in
                var domain = was
                domain.powerState = .shutdown
                state.domains[known.id] = domain
            }
            if !hasArrived { to.driver.host.change { _ = $0.domains.removeValue(forKey: known.id) } }
            from.driver.release(.sendEnds)
            let outcome = try await from.conductor.outcome(of: task)
            // And once more when the sending is taken back.
            #expect(to.driver.count(.hasArrived) == (isAway ? 3 : 1) + (hasArrived ? 0 : 1))
            #expect(from.driver.count(.sendGuest) == 1)
            guard hasArrived else {
                #expect(outcome.failure?.kind == .conflict && outcome.powerState == .shutdown)
                #expect(try await from.core.journal.guest(known.id) != nil)
                try await to.ends(&move, .release)
                return try await to.holdsExactly([])
            }
            #expect(outcome.failure == nil)
            try await to.takes(&move, from: from)
        }
    }

    @Test("A guest whose destination was not told to let it go on does so when it arrives")
    func goOn() async throws {
        try await onTwoHosts { from, to, known in
            var move = LiveMove(known)
            try await to.receives(&move, from: from)
            // When the guest's process has ended, and when all of it has gone.
            to.driver.fail(.goOn, Failure(.hypervisor, "it would not"), calls: 1...2)
            try await from.ends(&move, move.send(to: to))
            #expect(to.power(known) == .paused)
            try await to.takes(&move, from: from)
        }
    }

    @Test("A guest that has come, and has not yet arrived, is no stray of its host")
    func noStray() async throws {
        try await onTwoHosts { from, to, known in
            var move = LiveMove(known)
            try await to.receives(&move, from: from)
            try await from.ends(&move, move.send(to: to))
            try await to.core.watcher.compareAll()
            #expect(await to.core.watcher.orphans.isEmpty)
            try await to.takes(&move, from: from)
        }
    }

    @Test("A sending that is cancelled leaves the guest here, and can be had again")
    func cancelled() async throws {
        try await onTwoHosts { from, to, known in
            var move = LiveMove(known)
            try await to.receives(&move, from: from)
            from.driver.hold(.sendGuest)
            let task = try await from.sends(&move, move.send(to: to))
            await from.driver.reached(.sendGuest)
            try await from.cancel(task, known.id, generation: LiveMove.generation)
            #expect(try await from.conductor.outcome(of: task).failure?.kind == .cancelled)
            from.driver.release(.sendGuest)
            try await from.has(known)
            #expect(from.driver.count(.guestLeaves) == 0 && to.power(known) == nil)
            #expect(!from.core.gates.isOffered(known.id, for: move.migration))
            try await from.ends(&move, move.send(to: to))
            try await to.takes(&move, from: from)
        }
    }

    @Test("Only a guest that is being sent is forced")
    func forced() async throws {
        try await onTwoHosts { from, to, known in
            var move = LiveMove(known)
            try await to.receives(&move, from: from)
            let migration = move.migration
            @Sendable func force(_ migration: MigrationID) async throws -> ForceMigration.Result {
                try await from.client.call(ForceMigration.self, .init(instance: known.id, migration: migration))
            }
            let early = await #expect(throws: Failure.self) { _ = try await force(migration) }
            #expect(early?.kind == .conflict)
            from.driver.hold(.sendGuest)
            let task = try await from.sends(&move, move.send(to: to))
            await from.driver.reached(.sendGuest)
            #expect(try await !force(migration).isPostCopy)
            let other = await #expect(throws: Failure.self) { _ = try await force(MigrationID(makeUUID())) }
            #expect(other?.kind == .conflict)
            from.driver.release(.sendGuest)
            #expect(try await from.conductor.outcome(of: task).failure == nil)
            let late = await #expect(throws: Failure.self) { _ = try await force(migration) }
            #expect(late?.kind == .conflict)
            #expect(from.driver.count(.forceGuest) == 1)
            try await to.takes(&move, from: from)
        }
    }

    @Test("A destination that is cancelled while it makes itself ready has nothing of the guest")
    func cancelledReceiving() async throws {
        try await onTwoHosts { from, to, known in
            var move = LiveMove(known)
            try await to.ends(&move, .reserve(.test))
            try await from.ends(&move, .offer)
            to.driver.hold(.receiveGuest)
            let task = try await to.sends(&move, move.receive(from: from))
            await to.driver.reached(.receiveGuest)
            try await to.cancel(task, known.id, generation: LiveMove.generation)
            #expect(try await to.conductor.outcome(of: task).failure?.kind == .cancelled)
            to.driver.release(.receiveGuest)
            #expect(to.core.gates.answer(known.id, of: move.migration) == nil)
            #expect(to.driver.host.state.holdings.isEmpty)
            try await to.ends(&move, .release)
            try await to.holdsExactly([])
            try await from.has(known)
        }
    }

    @Test("A deletion in the middle leaves nothing on either host")
    func deleted() async throws {
        try await onTwoHosts { from, to, known in
            var move = LiveMove(known)
            try await to.receives(&move, from: from)
            from.driver.hold(.sendGuest)
            _ = try await from.sends(&move, move.send(to: to))
            await from.driver.reached(.sendGuest)
            for agent in [to, from] {
                let removal = try await agent.delete(known.id, generation: 99)
                #expect(try await agent.conductor.outcome(of: removal).failure == nil)
                try await agent.settled()
                try await agent.holdsExactly([])
            }
            #expect(!from.core.gates.isOffered(known.id, for: move.migration))
        }
    }

    @Test("A deletion at the destination closes the port at which the guest was to come in")
    func deletedDestination() async throws {
        try await onTwoHosts { from, to, known in
            var move = LiveMove(known)
            try await to.receives(&move, from: from)
            let removal = try await to.delete(known.id, generation: 99)
            #expect(try await to.conductor.outcome(of: removal).failure == nil)
            try await to.settled()
            try await to.holdsExactly([])
            #expect(to.core.gates.answer(known.id, of: move.migration) == nil)
            try await from.has(known)
        }
    }

    @Test("An agent that dies when the guest has left, and before it has said so, says so afterwards")
    func diedAfterwards() async throws {
        let (folder, host) = (try Folder(), FakeHost())
        let recorder = CrashRecorder(folder: folder, host: host)
        let source = try Bench(host: host, folder: folder, settings: ports) { call, phase, _ in
            if call == .guestLeaves, phase == .after { try recorder.record("after the guest has left") }
        }
        recorder.pause()
        try await onTwoHosts(source: source, prepare: recorder.watch) { from, to, known in
            var move = LiveMove(known)
            try await to.receives(&move, from: from)
            try await from.settled()
            recorder.start()
            try await from.ends(&move, move.send(to: to))
            try await from.settled()
            recorder.pause()
            let points = recorder.all.filter { $0.host.domains[known.id] == nil }
            for name in ["after the guest has left", "afterStep send_guest"] {
                #expect(points.contains { $0.name == name })
            }
            for point in points {
                let next = try Bench(host: FakeHost(point.host), folder: point.folder, settings: ports)
                try await next.run { [move] agent in
                    var move = move
                    try await agent.settled()
                    let outcome = try await agent.outcome(of: .send, move)
                    #expect(outcome != nil && outcome?.failure == nil, "\(point.name)")
                    #expect(try await agent.core.journal.guests().isEmpty, "\(point.name)")
                    #expect(try await agent.aside(known)?.migration == move.migration, "\(point.name)")
                    #expect(agent.core.tracker.snapshot.promised == known.resources, "\(point.name)")
                    #expect(agent.driver.count(.sendGuest) == 0, "\(point.name)")
                    try await agent.ends(&move, .leave)
                    try await agent.holdsExactly([])
                }
            }
            try await to.takes(&move, from: from)
        }
    }

    @Test("An agent that dies while it sends sends the guest when it is there again")
    func diedBefore() async throws {
        let (folder, host) = (try Folder(), FakeHost())
        let recorder = CrashRecorder(folder: folder, host: host)
        let source = try Bench(host: host, folder: folder, settings: ports) { call, phase, _ in
            if call == .sendGuest, phase == .before { try recorder.record("before the guest leaves") }
        }
        try await onTwoHosts(source: source) { from, to, known in
            var move = LiveMove(known)
            try await to.receives(&move, from: from)
            from.driver.fail(.sendGuest, Failure(.hypervisor, "it would not"))
            #expect(try await from.asks(&move, move.send(to: to)).failure != nil)
            let point = try #require(recorder.all.first)
            let next = try Bench(host: FakeHost(point.host), folder: point.folder, settings: ports)
            try await next.run { [move] agent in
                var move = move
                try await agent.settled()
                let outcome = try await agent.outcome(of: .send, move)
                #expect(outcome != nil && outcome?.failure == nil)
                #expect(agent.driver.count(.sendGuest) == 1 && agent.power(known) == nil)
                try await to.takes(&move, from: agent)
            }
        }
    }

    @Test("A release of one migration leaves alone what comes, or has come, by another")
    func otherRelease() async throws {
        try await onTwoHosts { from, to, known in
            var (move, other) = (LiveMove(known), LiveMove(known))
            try await to.receives(&move, from: from)
            try await to.ends(&other, .release)
            #expect(to.core.gates.answer(known.id, of: move.migration) != nil)
            #expect(to.driver.host.state.takenOver == [known.id: move.migration])
            #expect(to.core.tracker.snapshot.promised == known.resources)
            try await from.ends(&move, move.send(to: to))
            try await to.ends(&other, .release)
            #expect(to.power(known) == .running)
            try await to.takes(&move, from: from)
            try await to.ends(&other, .release)
            try await to.has(known)
        }
    }

    @Test("A release ends what a migration has made, and its port")
    func release() async throws {
        try await onTwoHosts { from, to, known in
            var move = LiveMove(known)
            try await to.receives(&move, from: from)
            let port = try #require(to.core.gates.answer(known.id, of: move.migration)?.port)
            for _ in 1...2 {
                try await to.ends(&move, .release)
                try await to.holdsExactly([])
            }
            #expect(to.core.gates.answer(known.id, of: move.migration) == nil)
            let ticket = move.address(to).ticket
            let line = LiveDoor.line(.control, move.migration, known.id, from: HostName("host1"), ticket: ticket)
            let http = HTTPClient()
            #expect(await http.refusal(port, line) != nil)
            await http.shutdown()
            try await from.has(known)
        }
    }

    @Test("A part that comes after the release is refused")
    func late() async throws {
        try await onTwoHosts { from, to, known in
            var move = LiveMove(known)
            try await to.ends(&move, .reserve(.test))
            try await from.ends(&move, .offer)
            try await to.again(move, .release, part: "release")
            _ = try await to.conductor.outcome(of: move.task.part("release"))
            for order in [MoveOrder.reserve(.test), move.receive(from: from), .arrive(.test)] {
                let failure = await #expect(throws: Failure.self) { _ = try await to.asks(&move, order) }
                #expect(failure?.kind == .conflict)
            }
            try await to.holdsExactly([])
        }
    }

    @Test("Where the hosts share the folder the source leaves the disks where they are")
    func sharedFolder() async throws {
        try await onTwoHosts { from, to, known in
            var move = LiveMove(known)
            try await to.receives(&move, from: from)
            // As a destination answers that sees the source's disks.
            _ = try to.door().open(known.id, for: move.migration, LiveAnswer(xml: "web", copiedDisks: []))
            try await from.ends(&move, move.send(to: to))
            #expect(try await from.aside(known)?.specification.copiedBy == nil)
            try await to.ends(&move, .arrive(.test))
            try await from.ends(&move, .leave)
            #expect(from.driver.count(.removeDisks) == 0 && from.driver.host.state.disks == [known.id])
            #expect(from.power(known) == nil && from.driver.host.state.networks.isEmpty)
            #expect(try await from.core.journal.guests().isEmpty)
            #expect(try await from.core.journal.claims().isEmpty)
            #expect(from.core.tracker.snapshot.promised == .zero)
            try await to.has(known)
        }
    }

    @Test("An order that is given again is the same one")
    func repeated() async throws {
        try await onTwoHosts { from, to, known in
            var move = LiveMove(known)
            let calls: [DriverCall] = [
                .offerGuest, .receiveGuest, .sendGuest, .guestLeaves, .removeDisks, .undefine,
            ]
            let orders: [(AgentHandle, MoveOrder)] = [
                (to, .reserve(.test)), (from, .offer), (to, move.receive(from: from)), (from, move.send(to: to)),
                (to, .arrive(.test)), (from, .leave),
            ]
            for (agent, order) in orders {
                try await agent.ends(&move, order)
                let counts = calls.map { from.driver.count($0) + to.driver.count($0) }
                let reports = agent.conductor.heard.operations.count
                move.epoch += 1
                try await agent.again(move, order)
                let heard = try await agent.conductor.until { $0.operations.count > reports }
                #expect(heard.operations.last?.failure == nil, "\(order.name)")
                #expect(heard.operations.last?.header.fence.epoch == move.epoch, "\(order.name)")
                #expect(calls.map { from.driver.count($0) + to.driver.count($0) } == counts, "\(order.name)")
            }
            try await from.holdsExactly([])
            try await to.has(known)
        }
    }

    @Test("Who asks for a channel without the migration's own ticket gets none")
    func port() async throws {
        try await onTwoHosts { from, to, known in
            var move = LiveMove(known)
            try await to.receives(&move, from: from)
            let port = try #require(to.core.gates.answer(known.id, of: move.migration)?.port)
            let (host, good) = (HostName("host1"), move.address(to).ticket)
            let other = LiveMove(known)
            func line(_ migration: MigrationID, from host: HostName, _ ticket: String) -> String {
                LiveDoor.line(.control, migration, known.id, from: host, ticket: ticket)
            }
            let right = line(move.migration, from: host, good)
            let lines = [
                line(move.migration, from: host, ""), line(move.migration, from: host, String(good.reversed())),
                line(move.migration, from: HostName("host2"), good),
                line(other.migration, from: host, other.address(to).ticket), line(other.migration, from: host, good),
                LiveDoor.line(
                    .control, move.migration, InstanceID(makeUUID()), from: host, ticket: good),
                right.replacing(" control ", with: " monitor "), right.replacing("/1 ", with: "/2 "), right + " more",
                "", "GET / HTTP/1.1",
            ]
            let http = HTTPClient()
            for line in lines {
                let refusal = await http.refusal(port, line)
                #expect(refusal != nil, "\(line)")
                #expect(refusal?.contains("nobody listens") != true, "\(line)")
            }
            // Of the right ones the fake listens on one only.
            let memory = await http.refusal(port, right.replacing(" control ", with: " memory "))
            #expect(memory?.contains("nobody listens") == true)
            #expect(to.power(known) == nil)
            try await from.ends(&move, move.send(to: to))
            try await to.takes(&move, from: from)
            #expect(await http.refusal(port, right) != nil)
            await http.shutdown()
        }
    }

    @Test("Hosts tell each other only of the migration whose ticket they are shown")
    func routes() async throws {
        try await onTwoHosts { from, to, known in
            var move = LiveMove(known)
            try await to.receives(&move, from: from)
            let (http, executor) = (HTTPClient(), BlockingExecutor(name: "peers", threads: 2))
            func peer(_ agent: AgentHandle, _ migration: MigrationID, ticket: String) -> AgentLivePeer {
                var address = move.address(agent)
                address.ticket = ticket
                return AgentLivePeer(
                    address, migration, known.id, host: HostName("host1"), http: http, executor: executor,
                    allowsPlaintext: false)
            }
            let (good, other) = (move.address(to).ticket, LiveMove(known))
            #expect(try await peer(from, move.migration, ticket: good).offer().disks.map(\.target) == ["vda"])
            #expect(try await peer(to, move.migration, ticket: good).answer().copiedDisks == ["vda"])
            let bad: [(MigrationID, String, FailureKind)] = [
                (move.migration, String(good.reversed()), .unauthenticated), (move.migration, "", .unauthenticated),
                (other.migration, good, .unauthenticated), (other.migration, other.address(to).ticket, .notFound),
            ]
            for (migration, ticket, kind) in bad {
                let (source, destination) = (
                    peer(from, migration, ticket: ticket), peer(to, migration, ticket: ticket)
                )
                let offer = await #expect(throws: Failure.self) { _ = try await source.offer() }
                let answer = await #expect(throws: Failure.self) { _ = try await destination.answer() }
                let go = await #expect(throws: Failure.self) { try await destination.go() }
                #expect([offer?.kind, answer?.kind, go?.kind] == [kind, kind, kind])
                guard kind == .unauthenticated else {
                    // Of a migration that is none of this host's: whether the guest is there may be asked, no more.
                    #expect(try await destination.hasArrived() == false)
                    continue
                }
                let standing = await #expect(throws: Failure.self) { _ = try await destination.hasArrived() }
                #expect(standing?.kind == kind)
            }
            // Each host has only its own side open.
            let (source, destination) = (
                peer(from, move.migration, ticket: good), peer(to, move.migration, ticket: good)
            )
            let offer = await #expect(throws: Failure.self) { _ = try await destination.offer() }
            let answer = await #expect(throws: Failure.self) { _ = try await source.answer() }
            #expect(offer?.kind == .notFound && answer?.kind == .notFound)
            #expect(to.driver.count(.goOn) == 0)
            executor.shutdown()
            await http.shutdown()
        }
    }

    @Test("A gate that is closed breaks off what is in it; that of another migration is not")
    func gates() async throws {
        let gates = LiveGates()
        let (id, migration, next) = (InstanceID(makeUUID()), MigrationID(makeUUID()), MigrationID(makeUUID()))
        let (http, executor) = (HTTPClient(), BlockingExecutor(name: "gates", threads: 4))
        let answer = LiveAnswer(xml: "", copiedDisks: [])
        let (near, far) = (try SocketPair(), try SocketPair())
        let server = try TunnelServer(address: "127.0.0.1", ports: 20_000...29_999, tls: nil)
        let second = try TunnelServer(address: "127.0.0.1", ports: 20_000...29_999, tls: nil)
        async let served: Void = server.run { _ in far.near }
        async let servedSecond: Void = second.run { _ in throw Failure(.forbidden, "not here") }
        gates.open(id, for: migration, answer, server)
        guard case .open(let tunnel) = try await http.tunnel(to: "http://127.0.0.1:\(server.port)", "anything")
        else {
            throw Failure(.conflict, "it was refused")
        }
        async let isBroken = executor.run {
            do throws(TunnelError) { try tunnel.carry(near.near) } catch { return true }
            return false
        }
        gates.close(id, of: next)
        gates.close(InstanceID(makeUUID()), of: migration)
        #expect(gates.answer(id, of: migration) == answer)
        #expect(gates.answer(id, of: next) == nil)
        // One that is opened for the same guest takes its place.
        gates.open(id, for: next, answer, second)
        #expect(await isBroken)
        await served
        #expect(gates.answer(id, of: migration) == nil && gates.answer(id, of: next) == answer)
        #expect(await http.refusal(second.port, "anything") == "forbidden: not here")
        gates.close(id, of: next)
        await servedSecond
        #expect(gates.answer(id, of: next) == nil)
        for socket in [near.near, near.far, far.far] { Glibc.close(socket) }
        executor.shutdown()
        await http.shutdown()
    }

    @Test("A host whose ports are all in use says that it may have one later")
    func noPort() async throws {
        let server = try TunnelServer(address: "127.0.0.1", ports: 20_000...29_999, tls: nil)
        let gates = LiveGates()
        let door = LiveDoor(
            address: "127.0.0.1", ports: server.port...server.port, tls: nil, host: HostName("host1"),
            conductorSecretHash: LiveMove.secretHash, driver: FakeDriver(), gates: gates)
        let (id, migration) = (InstanceID(makeUUID()), MigrationID(makeUUID()))
        let failure = #expect(throws: Failure.self) {
            _ = try door.open(id, for: migration, LiveAnswer(xml: "", copiedDisks: []))
        }
        #expect(failure?.kind == .overloaded && failure?.isRetriable == true)
        #expect(gates.answer(id, of: migration) == nil)
        withExtendedLifetime(server) {}
    }
}

/// Two sockets, each of which gets what is written into the other.
private struct SocketPair {
    let near: Int32
    let far: Int32

    init() throws {
        var ends: [Int32] = [-1, -1]
        try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0)
        (near, far) = (ends[0], ends[1])
    }
}

/// Where guests come in: away from the ports that other tests of this machine get by themselves.
private let ports = ["compute.live_migration_ports": "20000:29999"]

/// Two agents, of which one has built a guest.
private func onTwoHosts(
    source: Bench? = nil, prepare: @escaping @Sendable (AgentCore) -> Void = { _ in },
    _ body: @escaping @Sendable (_ from: AgentHandle, _ to: AgentHandle, _ known: Instance) async throws -> Void
) async throws {
    let (source, destination) = (try source ?? Bench(settings: ports), try Bench(settings: ports))
    let instance = Instance.test()
    try await source.run(prepare: prepare) { from in
        try await from.built(instance)
        let known = try await from.record(instance)
        try await destination.run { to in try await body(from, to, known) }
    }
}

/// A live migration as a conductor carries it through.
private struct LiveMove: Sendable {
    static let generation: Int64 = 10
    static let secretHash = Hex.encode(digest(.sha256, of: Array(FakeConductor.conductorSecret.utf8)))

    let migration = MigrationID(makeUUID())
    let task = TaskID(makeUUID())
    let instance: Instance
    let vmState: VMState
    var epoch: Int64 = 0
    var parts = 0

    init(_ instance: Instance, vmState: VMState = .active) { (self.instance, self.vmState) = (instance, vmState) }

    /// Where the other agent finds this one.
    func address(_ agent: AgentHandle) -> MoveSource {
        MoveSource(
            host: HostName("host1"), url: "http://127.0.0.1:\(agent.port)",
            ticket: MoveTicket.make(
                conductorSecretHash: Self.secretHash, migration: migration, instance: instance.id,
                destination: HostName("host1")))
    }

    func receive(from agent: AgentHandle) -> MoveOrder { .receive(.test, from: address(agent), LiveRequest()) }

    func send(to agent: AgentHandle) -> MoveOrder { .send(to: address(agent), LiveRequest()) }
}

extension AgentHandle {
    fileprivate func record(_ instance: Instance) async throws -> Instance {
        let guest = try #require(try await core.journal.guest(instance.id))
        var record = guest.specification.instance
        record.interfaces = guest.specification.interfaces
        return record
    }

    fileprivate func power(_ instance: Instance) -> PowerState? {
        driver.host.state.domains[instance.id]?.powerState
    }

    fileprivate func aside(_ instance: Instance) async throws -> SetAsideRecord? {
        try await core.journal.database.read { try $0.setAside(instance.id) }
    }

    fileprivate func outcome(of kind: OperationKind, _ move: LiveMove) async throws -> OperationOutcome? {
        let id = kind.operationID(task: move.task.part("\(move.parts)"), attempt: 1)
        return try await core.journal.database.read { try $0.operation(id)?.outcome }
    }

    fileprivate func door() -> LiveDoor {
        LiveDoor(
            address: "127.0.0.1", ports: 20_000...29_999, tls: nil, host: HostName("host1"),
            conductorSecretHash: LiveMove.secretHash, driver: driver, gates: core.gates)
    }

    fileprivate func commanded(_ command: GuestCommand, _ id: InstanceID) async throws {
        let outcome = try await conductor.outcome(of: operate(command, id, generation: 2))
        try #require(outcome.failure == nil)
    }

    /// Fails unless the guest, and nothing else, is here.
    fileprivate func has(
        _ instance: Instance, _ vmState: VMState = .active, _ power: PowerState = .running,
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        try await holdsExactly([instance], sourceLocation: sourceLocation)
        #expect(self.power(instance) == power, sourceLocation: sourceLocation)
        let guest = try await core.journal.guest(instance.id)
        #expect(guest?.vmState == vmState, sourceLocation: sourceLocation)
    }

    /// Goes as far as a destination that is ready for the guest.
    fileprivate func receives(_ move: inout LiveMove, from source: AgentHandle) async throws {
        try await ends(&move, .reserve(.test))
        try await source.ends(&move, .offer)
        try await ends(&move, move.receive(from: source))
    }

    /// Ends a migration whose guest was sent.
    fileprivate func takes(_ move: inout LiveMove, from source: AgentHandle) async throws {
        let report = try await ends(&move, .arrive(.test))
        #expect(report.vmState == .active && report.powerState == .running)
        try await has(move.instance)
        try await source.ends(&move, .leave)
        try await source.holdsExactly([])
    }

    /// Sends the next part.
    fileprivate func sends(_ move: inout LiveMove, _ order: MoveOrder) async throws -> TaskID {
        move.parts += 1
        return try await again(move, order)
    }

    /// Sends the last part once more, or one of a name.
    @discardableResult
    fileprivate func again(_ move: LiveMove, _ order: MoveOrder, part: String? = nil) async throws -> TaskID {
        let task = move.task.part(part ?? "\(move.parts)")
        let header = CommandHeader(
            task: task, instance: move.instance.id,
            fence: Fence(generation: LiveMove.generation, epoch: move.epoch))
        _ = try await client.call(
            MoveGuest.self,
            .init(
                header: header, migration: move.migration, order: order, instance: move.instance,
                vmState: move.vmState, isSameHost: false))
        return task
    }

    /// Sends it and waits for its end.
    fileprivate func asks(_ move: inout LiveMove, _ order: MoveOrder) async throws -> ReportOperation.Params {
        try await conductor.outcome(of: sends(&move, order))
    }

    /// The same for what succeeds.
    @discardableResult
    fileprivate func ends(
        _ move: inout LiveMove, _ order: MoveOrder, sourceLocation: SourceLocation = #_sourceLocation
    ) async throws -> ReportOperation.Params {
        let report = try await asks(&move, order)
        try #require(
            report.failure == nil, "\(order.name): \(report.failure?.message ?? "")", sourceLocation: sourceLocation)
        return report
    }
}

extension HTTPClient {
    /// Why a line opens no tunnel; `nil` when it does.
    fileprivate func refusal(_ port: UInt16, _ line: String) async -> String? {
        do throws(HTTPClientError) {
            switch try await tunnel(to: "http://127.0.0.1:\(port)", line) {
            case .open: return nil
            case .refused(let reason): return reason
            }
        } catch {
            return "\(error)"
        }
    }
}
