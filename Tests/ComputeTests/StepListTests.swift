import Model
import RPC
import Tasks
import Testing

@testable import Compute

@Suite("The lists of steps")
struct StepListTests {
    @Test("The list of an operation's steps is what the engine runs for it")
    func lists() async throws {
        let bench = try Bench()
        try await bench.run { agent in
            let registered = agent.core.engine.stepNames
            for kind in OperationKind.allCases {
                let names = OperationDefinitions.stepNames(of: kind)
                #expect(registered[kind.rawValue] ?? [] == names)
            }
            let built = OperationKind.allCases.filter { !OperationDefinitions.stepNames(of: $0).isEmpty }
            #expect(registered.count == built.count)
        }
    }

    @Test("The conductor waits longer for a command's end than its steps and their undoing may take")
    func limits() {
        let image = ImageReference.test
        let order = SnapshotOrder(image: ImageID("i"), format: .raw, quiesce: .no)
        let commands: [GuestCommand] = [
            .start, .stop, .softReboot, .hardReboot, .pause, .unpause, .suspend, .resume,
            .rescue(GuestMaterial(image: image)), .unrescue, .rebuild(GuestMaterial(image: image)), .snapshot(order),
            .shelve(order), .softDelete, .restore, .setPassword("p"), .attachInterface(InterfaceOrder()),
            .detachInterface("m"),
        ]
        #expect(
            Set(commands.map(\.name)).count == OperationKind.allCases.count - 15,
            "all but build, delete, the parts of moves and those of an evacuation")
        for command in commands {
            guard let kind = OperationKind(command) else {
                Issue.record("no operation carries out \(command.name)")
                continue
            }
            let longest = Duration.seconds(3_600)
            let steps = OperationDefinitions.command(kind, shutdownGrace: longest, rebootGrace: longest)
            let allowed = steps.reduce(Duration.zero) { $0 + $1.deadline }
            #expect(command.hostLimit > allowed + allowed / 2, "\(command.name): \(allowed)")
            #expect(command.hostLimit <= GuestCommand.longestHostLimit)
        }
        let source = MoveSource(host: HostName("h"), url: "u", ticket: "t")
        let orders: [MoveOrder] = [
            .reserve(image), .setAside, .takeOver(image, from: source), .release, .forget, .takeBack,
        ]
        for order in orders {
            guard let kind = OperationKind(order) else {
                Issue.record("no operation carries out \(order.name)")
                continue
            }
            let steps = OperationDefinitions.move(kind, shutdownGrace: longestGrace)
            #expect(!steps.isEmpty)
            let allowed = steps.reduce(Duration.zero) { $0 + $1.deadline }
            #expect(order.hostLimit > allowed + allowed / 2, "\(order.name): \(allowed)")
        }
    }

    private let longestGrace = Duration.seconds(3_600)
}

#if FaultInjection
    @Suite("Faults that a test asks for")
    struct FaultInjectionTests {
        @Test("Without a request there is none")
        func none() throws {
            #expect(try FaultInjection(fault: nil, fail: nil) == nil)
        }

        @Test(
            "A point is a kind, a step and a moment",
            arguments: [
                ("guest.build/create_disks/before", TaskHook.Phase.beforeStep),
                ("guest.build/create_disks/after", .afterStep),
                ("guest.build/create_disks/undo", .afterUndo),
                ("guest.build/finished/before", .beforeFinished),
                ("guest.build/finished/after", .afterFinished),
            ])
        func point(text: String, phase: TaskHook.Phase) throws {
            let step = try #require(text.split(separator: "/").dropFirst().first.map(String.init))
            let found = try #require(try FaultInjection(fault: text, fail: nil))
            #expect(found.death == .init(kind: "guest.build", step: step, phase: phase))
        }

        @Test(
            "A point that no operation has is refused",
            arguments: [
                "", "guest.build", "guest.build/create_disks", "guest.build/create_disks/never",
                "guest.build/none/before", "none/create_disks/before", "guest.build/finished/undo",
                "guest.build/create_disks/before/after",
            ])
        func refused(text: String) {
            #expect(throws: Failure.self) { try FaultInjection(fault: text, fail: nil) }
        }

        @Test("A step fails where the test says, and nowhere else")
        func failing() throws {
            let asked = try #require(try FaultInjection(fault: nil, fail: "guest.start/power_on_guest"))
            try asked.failIfAsked(kind: "guest.start", step: "redefine_domain")
            try asked.failIfAsked(kind: "guest.hard_reboot", step: "power_on_guest")
            #expect(throws: Failure.self) { try asked.failIfAsked(kind: "guest.start", step: "power_on_guest") }
            #expect(throws: Failure.self) { try FaultInjection(fault: nil, fail: "guest.start/none") }
            #expect(throws: Failure.self) { try FaultInjection(fault: nil, fail: "guest.start") }
        }
    }
#endif
