import Crypto
import Database
import Model
import RPC
import Synchronization
import Tasks
import Telemetry
import Testing

@testable import Conductor

@Suite("Live migration", .timeLimit(.minutes(3)))
struct LiveMigrationTests {
    @Test("A guest that runs is offered, received, sent and taken; its host changes at the end, and the old is told")
    func moved() async throws {
        try await Living.with { living in
            living.home.answer("send", .stayQuiet)
            let task = try await living.migrate()
            let header = try await living.header("send", on: living.home)
            let during = try await living.instance()
            #expect(during.host == living.home.name && during.taskState == .migrating && during.status == .migrating)
            #expect(try await living.migration().status == .running)
            let began = try #require(during.launchedAt)
            try await living.home.finish(header)
            #expect(try await living.plane.waitForEnd(of: task).status == .succeeded)
            let after = try await living.instance()
            #expect(after.vmState == .active && after.taskState == nil && after.host == living.other.name)
            #expect(after.node == living.other.name.rawValue && after.move == nil && after.fault == nil)
            #expect(after.launchedAt == began && after.progress == 100)
            try await living.waitForOrders(home: ["offer", "send", "leave"], other: ["reserve", "receive", "arrive"])
            let migration = try await living.migration()
            #expect(migration.status == .completed && migration.destinationHost == living.other.name)
            // Each host gets the ticket of the other, for itself and for this migration only.
            func isGood(_ source: MoveSource, of host: PlayedHost, for guest: PlayedHost) -> Bool {
                MoveTicket.isGood(
                    source.ticket, conductorSecretHash: host.state.withLock { $0.conductorSecretHash },
                    migration: migration.id, instance: after.id, destination: guest.name)
            }
            guard case .receive(_, let source, _)? = living.other.liveOrder("receive"),
                case .send(let target, let request)? = living.home.liveOrder("send")
            else {
                Issue.record("nothing was sent or received")
                return
            }
            #expect(source.host == living.home.name && isGood(source, of: living.home, for: living.other))
            #expect(target.host == living.other.name && isGood(target, of: living.other, for: living.home))
            #expect(request == LiveRequest(isBlockMigration: true))
            let actions = try await living.plane.database.actions.list(after.id)
            #expect(actions.allSatisfy { $0.finishedAt != nil && $0.message == nil })
            try await living.expectNothingLeft()
        }
    }

    @Test("A paused guest is paused afterwards")
    func paused() async throws {
        try await Living.with { living in
            _ = try await living.plane.database.instances.update(living.id, now: WallClock.now()) {
                $0.vmState = .paused
            }
            #expect(try await living.plane.waitForEnd(of: living.migrate()).status == .succeeded)
            let after = try await living.instance()
            #expect(after.vmState == .paused && after.host == living.other.name)
            #expect(living.other.liveMoves.allSatisfy { $0.vmState == .paused })
        }
    }

    @Test("A source that does not offer its guest ends it, and no other host hears of it", arguments: [true, false])
    func notOffered(refuses: Bool) async throws {
        try await Living.with { living in
            let failure = Failure(.conflict, "it has a device of its host", isRetriable: true)
            living.home.answer("offer", refuses ? .refuse(failure) : .fail(failure))
            #expect(try await living.plane.waitForEnd(of: living.migrate()).status == .failed)
            try await living.expectAsBefore("it has a device of its host", .error)
            #expect(living.home.liveOrders == ["offer"] && living.other.liveOrders.isEmpty)
        }
    }

    @Test("A host that cannot receive the guest gives back what it has promised, and the next one is asked")
    func alternates() async throws {
        try await Living.with { living in
            let third = try await living.addHost("kvm3")
            for host in [living.other, third] {
                host.answer("receive", .refuse(Failure(.hypervisor, "another processor")))
            }
            let row = try await living.plane.waitForEnd(of: living.migrate())
            #expect(row.status == .failed && row.lastError?.kind == .noValidHost)
            for host in [living.other, third] {
                #expect(row.lastError?.message.contains("\(host.name): another processor") == true)
                _ = try await eventually("the release") {
                    host.liveOrders == ["reserve", "receive", "release"] ? true : nil
                }
            }
            #expect(living.home.liveOrders == ["offer"])
            try await living.expectAsBefore(nil, .error)

            third.answer("receive", .succeed)
            #expect(try await living.plane.waitForEnd(of: living.migrate()).status == .succeeded)
            #expect(try await living.instance().host == third.name)
            #expect(try await living.migration().destinationHost == third.name)
        }
    }

    @Test("A host that still removes what it had of the guest is asked again, and takes it")
    func straightBack() async throws {
        try await Living.with { living in
            living.other.answer("reserve", .refuse(Failure(.conflict, "it is being removed", isRetriable: true)))
            let task = try await living.migrate()
            _ = try await eventually("the refusal") { living.other.liveOrders.contains("reserve") ? true : nil }
            living.other.answer("reserve", .succeed)
            #expect(try await living.plane.waitForEnd(of: task).status == .succeeded)
            #expect(try await living.instance().host == living.other.name)
        }
    }

    @Test("A host without room is passed over, and has nothing to give back")
    func noRoom() async throws {
        try await Living.with { living in
            living.other.answer("reserve", .refuse(Failure(.insufficientResources, "no room")))
            let row = try await living.plane.waitForEnd(of: living.migrate())
            #expect(row.lastError?.kind == .noValidHost && row.lastError?.message.contains("no room") == true)
            #expect(living.other.liveOrders == ["reserve"])
            try await living.expectAsBefore(nil, .error)
        }
    }

    @Test("When the sending fails the guest is where it was at once, whatever the destination has yet to give back")
    func notSent() async throws {
        try await Living.with { living in
            living.home.answer("send", .fail(Failure(.hypervisor, "the link broke", isRetriable: true)))
            living.other.answer("release", .stayQuiet)
            let row = try await living.plane.waitForEnd(of: living.migrate())
            #expect(row.status == .failed && living.home.liveOrders == ["offer", "send"])
            try await living.expectAsBefore("the link broke", .failed, isOver: false)
            let release = try await living.header("release", on: living.other)
            #expect(release.task.rawValue == "\(row.id)/release/\(living.other.name)")
            try await living.other.finish(release)
            try await living.expectNothingLeft()
        }
    }

    @Test("A source that refuses to send has its guest as before")
    func refusedToSend() async throws {
        try await Living.with { living in
            living.home.answer("send", .refuse(Failure(.conflict, "the guest has crashed")))
            #expect(try await living.plane.waitForEnd(of: living.migrate()).status == .failed)
            try await living.expectAsBefore("the guest has crashed", .failed)
            try await living.waitForOrders(home: ["offer", "send"], other: ["reserve", "receive", "release"])
        }
    }

    @Test("What the source says of a guest that stays counts")
    func crashed() async throws {
        try await Living.with { living in
            living.home.answer("send", .stayQuiet)
            let task = try await living.migrate()
            let header = try await living.header("send", on: living.home)
            try await living.home.finish(header, Failure(.hypervisor, "it crashed"), vmState: .stopped)
            #expect(try await living.plane.waitForEnd(of: task).status == .failed)
            let after = try await living.instance()
            #expect(after.vmState == .stopped && after.taskState == nil && after.host == living.home.name)
        }
    }

    @Test("An abort while it is sent is the source's to answer; the guest is as before, and that is no fault")
    func aborted() async throws {
        try await Living.with { living in
            living.home.answer("send", .stayQuiet)
            let task = try await living.migrate()
            let header = try await living.header("send", on: living.home)
            try await living.cancel(task)
            #expect(try await living.plane.waitForEnd(of: task).status == .cancelled)
            #expect(living.home.commands("cancel").map(\.task) == [header.task])
            try await living.expectAsBefore(nil, .cancelled)
            try await living.waitForOrders(home: ["offer", "send"], other: ["reserve", "receive", "release"])
        }
    }

    @Test("An abort that comes too late changes nothing: the guest is where it has arrived")
    func abortedTooLate() async throws {
        try await Living.with { living in
            living.home.answer("send", .stayQuiet)
            living.home.answer("cancel", .refuse(Failure(.conflict, "too far on")))
            let task = try await living.migrate()
            let header = try await living.header("send", on: living.home)
            try await living.cancel(task)
            _ = try await eventually("the question") { living.home.commands("cancel").first }
            try await living.home.finish(header)
            #expect(try await living.plane.waitForEnd(of: task).status == .succeeded)
            #expect(try await living.instance().host == living.other.name)
            #expect(try await living.migration().status == .completed)
        }
    }

    @Test("An abort before it is sent ends it at once", arguments: ["offer", "reserve", "receive"])
    func abortedEarly(order: String) async throws {
        try await Living.with { living in
            (order == "offer" ? living.home : living.other).answer(order, .stayQuiet)
            let task = try await living.migrate()
            _ = try await living.header(order, on: order == "offer" ? living.home : living.other)
            #expect(try await living.migration().status == .preparing)
            try await living.cancel(task)
            #expect(try await living.plane.waitForEnd(of: task).status == .cancelled)
            try await living.expectAsBefore(nil, .cancelled)
            #expect(!living.home.liveOrders.contains("send"))
            if order != "offer" {
                _ = try await eventually("the release") { living.other.liveOrders.last == "release" ? true : nil }
            }
        }
    }

    @Test("A source that is away while it sends is waited for, and what it says then counts", arguments: [true, false])
    func sourceAway(hasSent: Bool) async throws {
        try await Living.with { living in
            living.home.answer("send", .stayQuiet)
            let task = try await living.migrate()
            let header = try await living.header("send", on: living.home)
            let moment = WallClock.now()
            try await living.hasten(task)
            _ = try await eventually("the task to have looked") {
                let row = try await living.plane.database.tasks.find(task)
                return row?.status == .waiting && (row?.wakeAt ?? moment) > moment + .seconds(5) ? true : nil
            }
            #expect(try await living.instance().taskState == .migrating)
            #expect(living.other.liveOrders == ["reserve", "receive"])
            try await living.home.finish(header, hasSent ? nil : Failure(.hypervisor, "interrupted"))
            let row = try await living.plane.waitForEnd(of: task)
            #expect(row.status == (hasSent ? .succeeded : .failed))
            if hasSent {
                #expect(try await living.instance().host == living.other.name)
            } else {
                try await living.expectAsBefore("interrupted", .failed)
            }
        }
    }

    @Test(
        "When the source is called dead while it sends, the destination is asked for the guest",
        arguments: [true, false])
    func sourceDead(hasCome: Bool) async throws {
        try await Living.with { living in
            living.home.answer("send", .stayQuiet)
            if !hasCome { living.other.answer("arrive", .fail(Failure(.notFound, "there is no guest here"))) }
            let task = try await living.migrate()
            _ = try await living.header("send", on: living.home)
            try await living.declareDead(living.home, task)
            let row = try await living.plane.waitForEnd(of: task)
            let told = try await living.plane.database.evacuations.list(from: living.home.name)
            if hasCome {
                #expect(row.status == .succeeded)
                let after = try await living.instance()
                #expect(after.host == living.other.name && after.vmState == .active && after.move == nil)
                // The old host hears of it when it returns, and removes what it has.
                #expect(told.map(\.instance) == [after.id])
                #expect(told.first.map { $0.generation > row.generation } == true)
            } else {
                #expect(row.status == .failed && told.isEmpty)
                let after = try await living.instance()
                #expect(after.host == living.home.name && after.taskState == nil && after.move == nil)
                #expect(after.fault?.message.contains("declared dead") == true)
                _ = try await eventually("the destination to give back what it has") {
                    living.other.liveOrders.contains("release") ? true : nil
                }
            }
        }
    }

    @Test("When the destination is called dead once it has the guest, the instance is in ERROR there, to be evacuated")
    func destinationDead() async throws {
        try await Living.with { living in
            living.other.answer("arrive", .stayQuiet)
            let task = try await living.migrate()
            _ = try await living.header("arrive", on: living.other)
            try await living.declareDead(living.other, task)
            #expect(try await living.plane.waitForEnd(of: task).status == .failed)
            let after = try await living.instance()
            #expect(after.vmState == .error && after.host == living.other.name && after.move == nil)
            #expect(after.fault?.message.contains("evacuate the instance from it") == true)
            #expect(try await living.migration().status == .error)
            _ = try await eventually("the source to leave it") { living.home.liveOrders.contains("leave") ? true : nil }
        }
    }

    @Test("A guest that its destination cannot have go on is in ERROR there, and its old host is told to leave it")
    func notArrived() async throws {
        try await Living.with { living in
            living.other.answer("arrive", .fail(Failure(.hypervisor, "it would not go on")))
            #expect(try await living.plane.waitForEnd(of: living.migrate()).status == .failed)
            let after = try await living.instance()
            #expect(after.vmState == .error && after.taskState == nil && after.host == living.other.name)
            #expect(after.node == living.other.name.rawValue && after.move == nil)
            #expect(after.fault?.message == "it would not go on")
            let migration = try await living.migration()
            #expect(migration.status == .error && migration.failure == "it would not go on")
            try await living.waitForOrders(home: ["offer", "send", "leave"], other: ["reserve", "receive", "arrive"])
            try await living.expectNothingLeft()
        }
    }

    @Test("A source that went down removes what it has when it is back, and nobody waits for it")
    func leftLater() async throws {
        try await Living.with { living in
            living.home.answer("send", .stayQuiet)
            let task = try await living.migrate()
            let header = try await living.header("send", on: living.home)
            living.home.answer("leave", .fail(Failure(.storage, "read-only for the moment")))
            living.other.answer("arrive", .stayQuiet)
            try await living.home.finish(header)
            let arrival = try await living.header("arrive", on: living.other)
            await living.home.stop()
            try await living.other.finish(arrival)
            #expect(try await living.plane.waitForEnd(of: task).status == .succeeded)
            #expect(try await living.instance().taskState == nil)
            #expect(!living.home.liveOrders.contains("leave"))
            try living.home.start()
            try await living.hasten(TaskID("\(task)/leave/\(living.home.name)"))
            _ = try await eventually("the first try") { living.home.commands("leave").first }
            living.home.answer("leave", .succeed)
            try await living.hasten(TaskID("\(task)/leave/\(living.home.name)"))
            let row = try await living.plane.waitForEnd(of: TaskID("\(task)/leave/\(living.home.name)"))
            #expect(row.status == .succeeded && living.home.commands("leave").count == 2)
            #expect(living.home.liveMoves.last?.isSameHost == false)
            try await living.expectNothingLeft()
        }
    }

    @Test("A deletion in the middle reaches the source first, and then the destination")
    func deleted() async throws {
        try await Living.with { living in
            living.home.answer("send", .stayQuiet)
            living.home.answer("delete", .stayQuiet)
            let task = try await living.migrate()
            _ = try await living.header("send", on: living.home)
            let deletion = try await living.plane.delete(living.id)
            let header = try await living.header("delete", on: living.home)
            #expect(living.other.commands("delete").isEmpty)
            try await living.home.finish(header)
            #expect(try await living.plane.waitForEnd(of: deletion).status == .succeeded)
            _ = try await eventually("the deletion there") { living.other.commands("delete").first }
            let after = try #require(try await living.plane.database.instances.find(living.id, includeDeleted: true))
            #expect(after.vmState == .deleted)
            #expect(try await living.migration().status.isOver)
            #expect(try await living.plane.waitForEnd(of: task).status == .cancelled)
            try await living.expectNothingLeft()
        }
    }

    @Test("A host that is forced is not the scheduler's to refuse, and promises the room all the same")
    func forcedHost() async throws {
        try await Living.with { living in
            let small = try await living.addHost("kvm3", memoryMiB: 100)
            let row = try await living.plane.waitForEnd(of: living.migrate(to: small.name))
            #expect(row.lastError?.kind == .noValidHost && small.liveOrders.isEmpty)
            let task = try await living.migrate(to: small.name, isForced: true)
            #expect(try await living.plane.waitForEnd(of: task).status == .succeeded)
            #expect(small.liveOrders == ["reserve", "receive", "arrive"] && living.other.liveOrders.isEmpty)
            #expect(try await living.instance().host == small.name)
        }
    }

    @Test("An agent of a release without live migration takes no part in one, as source or destination")
    func oldAgents() async throws {
        try await Living.with { living in
            for host in [living.other, living.home] {
                var old = host.manifest
                old.methods[ForceMigration.name] = nil
                _ = try await host.register(old)
                let row = try await living.plane.waitForEnd(of: living.migrate())
                #expect(row.status == .failed && row.lastError?.message.contains("upgrade it") == true)
                #expect(row.lastError?.message.contains(host.name.rawValue) == true)
                #expect(living.home.liveOrders.isEmpty && living.other.liveOrders.isEmpty)
            }
            try await living.expectAsBefore(nil, .error)
        }
    }

    @Test(
        "A host with another hypervisor, or an older one, is dropped with the reason; a newer one is not",
        arguments: [("Xen", 7_002_000, false), ("QEMU", 7_001_999, false), ("QEMU", 8_000_000, true)])
    func hypervisors(type: String, version: Int, isFit: Bool) async throws {
        try await Living.with { living in
            try await living.other.reportResources(
                memoryMiB: 8_192, hypervisorType: type, hypervisorVersion: version)
            let row = try await living.plane.waitForEnd(of: living.migrate())
            #expect(row.status == (isFit ? .succeeded : .failed))
            guard !isFit else { return }
            #expect(row.lastError?.kind == .noValidHost)
            #expect(row.lastError?.message.contains("kvm2: ") == true)
            #expect(living.home.liveOrders.isEmpty && living.other.liveOrders.isEmpty)
            let forced = try await living.migrate(to: living.other.name, isForced: true)
            #expect(try await living.plane.waitForEnd(of: forced).status == .failed)
            #expect(living.other.liveOrders.isEmpty)
        }
    }

    @Test("The source tells how far it is; what comes afterwards, or from another host, is nothing to anybody")
    func progress() async throws {
        try await Living.with { living in
            living.home.answer("send", .stayQuiet)
            let task = try await living.migrate()
            let header = try await living.header("send", on: living.home)
            let id = try await living.migration().id
            func report(_ host: PlayedHost, _ left: Int64, isPostCopy: Bool = false) async throws {
                _ = try await host.conductor.call(
                    ReportMigration.self,
                    .init(
                        host: host.name, instance: living.id, migration: id,
                        progress: MigrationProgress(
                            memoryTotal: 100, memoryProcessed: 100 - left, memoryRemaining: left, diskTotal: 300,
                            diskProcessed: 300),
                        isPostCopy: isPostCopy))
            }
            try await report(living.home, 80)
            #expect(try await living.instance().progress == 80)
            #expect(try await living.migration().progress?.memoryRemaining == 80)
            #expect(try await living.migration().status == .running)
            let refusal = await #expect(throws: Failure.self) { try await report(living.other, 1) }
            #expect(refusal?.kind == .forbidden)
            #expect(try await living.migration().progress?.memoryRemaining == 80)
            try await report(living.home, 40, isPostCopy: true)
            #expect(try await living.migration().status == .runningPostCopy)
            try await living.home.finish(header)
            #expect(try await living.plane.waitForEnd(of: task).status == .succeeded)
            try await report(living.home, 99)
            #expect(try await living.instance().progress == 100)
            #expect(try await living.migration().progress?.memoryRemaining == 40)
        }
    }

    @Test("The end of a live migration is forced at its source, and only while it is under way")
    func forcedEnd() async throws {
        try await Living.with { living in
            living.home.answer("send", .stayQuiet)
            let task = try await living.migrate()
            let header = try await living.header("send", on: living.home)
            let params = ForceLiveMigration.Params(instance: living.id, migration: try await living.migration().id)
            living.home.state.withLock { $0.forceFailure = Failure(.conflict, "it has not begun") }
            let refusal = await #expect(throws: Failure.self) {
                _ = try await living.plane.api.call(ForceLiveMigration.self, params)
            }
            #expect(refusal?.kind == .conflict && refusal?.message == "it has not begun")
            living.home.state.withLock { $0.forceFailure = nil }
            #expect(try await living.plane.api.call(ForceLiveMigration.self, params).isPostCopy)
            #expect(living.home.state.withLock { $0.forced.last } == params)
            #expect(try await living.migration().status == .runningPostCopy)
            try await living.home.finish(header)
            _ = try await living.plane.waitForEnd(of: task)
            let late = await #expect(throws: Failure.self) {
                _ = try await living.plane.api.call(ForceLiveMigration.self, params)
            }
            #expect(late?.kind == .conflict)
        }
    }
}

/// A guest that runs on one host, another host beside it.
private struct Living: Sendable {
    let plane: ControlPlane
    let home: PlayedHost
    let other: PlayedHost
    let id: InstanceID

    static func with(settings: [String: String] = [:], _ body: (Living) async throws -> Void) async throws {
        try await ControlPlane.with(settings: settings) { plane in
            let home = try await plane.addHost("kvm1")
            _ = try await home.register(home.manifest)
            let made = try await plane.running()
            _ = try await plane.addImage(made.imageID)
            let other = try await plane.addHost("kvm2")
            _ = try await other.register(other.manifest)
            try await body(Living(plane: plane, home: home, other: other, id: made.id))
        }
    }

    func addHost(_ name: String, memoryMiB: Int = 8_192) async throws -> PlayedHost {
        let host = try await plane.addHost(name, memoryMiB: memoryMiB)
        _ = try await host.register(host.manifest)
        return host
    }

    func instance() async throws -> Instance { try #require(try await plane.database.instances.find(id)) }

    /// The newest one.
    func migration() async throws -> MigrationRecord {
        var query = MigrationQuery()
        query.instance = id
        return try #require(try await plane.database.migrations.list(query).first)
    }

    /// Accepts a live migration as the API does.
    func migrate(to host: HostName? = nil, isForced: Bool = false) async throws -> TaskID {
        let (requestID, task, now) = (RequestScope.makeID(), TaskID(makeUUID()), WallClock.now())
        let migration = MigrationID(makeUUID())
        let action = InstanceAction(
            instance: id, requestID: requestID, kind: .liveMigration, userID: UserID("u"), projectID: ProjectID("p"),
            startedAt: now)
        let seen = try await instance()
        let source = home.name
        let record = MigrationRecord(
            id: migration, instance: seen, type: .liveMigration, status: .queued, sourceHost: source,
            newFlavor: seen.flavor.id, userID: UserID("u"), now: now)
        _ = try await plane.database.instances.update(
            id, now: now, action: action, migrations: [.insert(record)],
            makeTasks: { instance in
                var state = MoveTaskState(instance: instance.id, migration: migration, requestedHost: host)
                state.isForced = isForced
                state.request = LiveRequest(isBlockMigration: true)
                var row = try TaskEngine.makeRow(
                    kind: TaskKind.liveMigrate, instance: instance.id, requestID: requestID,
                    generation: instance.fence.generation, state: state, now: now)
                row.id = task
                return [row]
            },
            change: { instance in
                instance.taskState = try InstanceRequest.liveMigrate.admitted(to: instance, isAdmin: true)
                instance.move = PendingMove(
                    migration: migration, type: .liveMigration, source: source, formerFlavor: instance.flavor,
                    formerVMState: instance.vmState)
                instance.fence = Fence(generation: instance.fence.generation + 1, epoch: 0)
            })
        _ = try await plane.api.call(WakeConductor.self, .init())
        return task
    }

    func cancel(_ task: TaskID) async throws {
        try await plane.database.tasks.requestCancel(task, now: WallClock.now())
        _ = try await plane.api.call(WakeConductor.self, .init())
    }

    /// An operator has made sure that a host is dead, and the task looks.
    func declareDead(_ host: PlayedHost, _ task: TaskID) async throws {
        let services = plane.database.services
        let uuid = try #require(try await services.find(host: host.name, binary: "nova-compute")?.uuid)
        _ = try await services.change(uuid: uuid, isForcedDown: true)
        try await hasten(task)
    }

    /// Lets a task that waits run now; one that is over already has run.
    func hasten(_ task: TaskID) async throws {
        _ = try await eventually("task \(task) to wait") {
            let tasks = plane.database.tasks
            if try await tasks.find(task)?.status.isFinished == true { return true }
            return try await tasks.hasten(task, now: WallClock.now()) ? true : nil
        }
        _ = try await plane.api.call(WakeConductor.self, .init())
    }

    /// What the host was told, once it was.
    func header(_ command: String, on host: PlayedHost) async throws -> CommandHeader {
        try await eventually("\(command) on \(host.name)") { host.commands(command).last }
    }

    func waitForOrders(home: [String], other: [String]) async throws {
        _ = try await eventually("\(home) and \(other), not \(self.home.liveOrders) and \(self.other.liveOrders)") {
            self.home.liveOrders == home && self.other.liveOrders == other ? true : nil
        }
    }

    /// The guest is where it was, as it was.
    func expectAsBefore(_ fault: String?, _ status: MigrationStatus, isOver: Bool = true) async throws {
        let after = try await instance()
        #expect(after.vmState == .active && after.taskState == nil && after.host == home.name)
        #expect(after.move == nil && after.powerState == .running && after.progress == 100)
        let migration = try await migration()
        #expect(migration.status == status)
        let action = try await plane.database.actions.list(id).first
        #expect(action?.kind == .liveMigration && action?.finishedAt != nil && action?.message == "Error")
        if status == .cancelled {
            #expect(after.fault == nil && migration.failure == nil)
        } else {
            #expect(after.fault != nil && migration.failure == after.fault?.message)
            #expect(fault == nil || after.fault?.message == fault)
        }
        if isOver { try await expectNothingLeft() }
    }

    func expectNothingLeft() async throws {
        _ = try await eventually("everything to be over") {
            try await plane.database.tasks.list(instance: nil, unfinishedOnly: true, limit: 1).isEmpty ? true : nil
        }
        #expect(try await plane.database.check().isEmpty)
    }
}

extension PlayedHost {
    fileprivate var liveMoves: [MoveGuest.Params] { state.withLock { $0.moves } }
    /// What the host was told, in order.
    fileprivate var liveOrders: [String] { liveMoves.map(\.order.name) }

    fileprivate func liveOrder(_ name: String) -> MoveOrder? { liveMoves.last { $0.order.name == name }?.order }
}
