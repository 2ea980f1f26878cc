import Model
import Testing

@testable import Compute

@Suite("What follows from a power state that was seen")
struct PowerRuleTests {
    @Test(
        "A running instance whose guest is off has stopped, one at rest whose guest runs is active; nothing else changes",
        arguments: VMState.allCases)
    func table(vmState: VMState) {
        for seen in PowerState.allCases {
            let rule = PowerRule(vmState: vmState, known: .running, seen: seen)
            let isOff = seen == .shutdown || seen == .crashed
            var expected: VMState?
            if isOff, vmState == .active || vmState == .paused { expected = .stopped }
            if seen == .running, [.stopped, .paused, .suspended].contains(vmState) { expected = .active }
            #expect(rule.vmState == expected)
            #expect(rule.isNews == (seen != .running || expected != nil))
        }
    }

    @Test("A guest without a domain is told as unknown, never as off")
    func missing() {
        let rule = PowerRule(vmState: .active, known: .running, seen: nil)
        #expect(rule.vmState == nil)
        #expect(rule.powerState == .noState)
        #expect(rule.isNews)
    }

    @Test("What is known already is no news")
    func known() {
        #expect(!PowerRule(vmState: .stopped, known: .shutdown, seen: .shutdown).isNews)
        #expect(!PowerRule(vmState: .active, known: .running, seen: .running).isNews)
    }
}

@Suite("A lane's order")
struct LaneTests {
    private func operation(_ kind: OperationKind, _ number: Int) -> OperationRecord {
        OperationRecord(
            id: TaskID("\(number)"), kind: kind, instance: InstanceID("i"), task: nil,
            fence: Fence(generation: 1, epoch: 0), requestID: RequestID("r"), acceptedAt: Timestamp(seconds: 0))
    }

    @Test("A delete makes everything before it pointless, a hard reboot only what it may interrupt")
    func superseding() {
        let lane = [
            operation(.softReboot, 1), operation(.stop, 2), operation(.hardReboot, 3), operation(.delete, 4),
            operation(.delete, 5),
        ]
        for kind in OperationKind.allCases {
            let isPointless = [.softReboot, .hardReboot, .pause, .unpause, .suspend, .resume].contains(kind)
            #expect(superseded(in: [operation(kind, 1), operation(.hardReboot, 2)]).isEmpty != isPointless)
        }
        #expect(superseded(in: lane).map(\.rawValue) == ["1", "2", "3"])
        #expect(superseded(in: Array(lane.prefix(3))).map(\.rawValue) == ["1"])
        #expect(superseded(in: Array(lane.prefix(1))).isEmpty)
    }
}

@Suite("A console's text")
struct ConsoleTextTests {
    @Test("The last lines are counted from the end, a final newline not as a line")
    func lines() {
        let bytes = Array("one\ntwo\nthree\n".utf8)
        #expect(ConsoleText.clean(bytes, lines: 1) == "three\n")
        #expect(ConsoleText.clean(bytes, lines: 2) == "two\nthree\n")
        #expect(ConsoleText.clean(bytes, lines: 9) == "one\ntwo\nthree\n")
        #expect(ConsoleText.clean(bytes, lines: nil) == "one\ntwo\nthree\n")
        #expect(ConsoleText.clean(bytes, lines: 0).isEmpty)
        #expect(ConsoleText.clean(bytes, lines: -3).isEmpty)
        #expect(ConsoleText.clean(Array("no end".utf8), lines: 1) == "no end")
        #expect(ConsoleText.clean([], lines: 5).isEmpty)
    }

    @Test("Control characters go, tab and newline stay, bytes that are no UTF-8 become U+FFFD")
    func hostile() {
        let bytes: [UInt8] = [0x1B, 0x5B, 0x33, 0x41, 0x00, 0x09, 0x0D, 0x0A, 0xFF, 0xC2, 0x85, 0x7F, 0x42]
        #expect(ConsoleText.clean(bytes, lines: nil) == "[3A\t\n\u{FFFD}B")
    }

    @Test("No more than 100 KiB come out, whatever goes in")
    func bounded() {
        let garbage = [UInt8](repeating: 0xFF, count: 200_000)
        #expect(ConsoleText.clean(garbage, lines: nil).utf8.count <= ConsoleText.limit)
        let umlauts = Array(String(repeating: "ü", count: 100_000).utf8) + [0x41]
        let text = ConsoleText.clean(umlauts, lines: nil)
        #expect(text.utf8.count <= ConsoleText.limit)
        #expect(text.hasSuffix("üA") && !text.contains("\u{FFFD}"))
    }
}

@Suite("Addresses of this machine")
struct LoopbackTests {
    @Test(
        "Only URLs of this machine may be spoken to in plaintext",
        arguments: [
            ("http://127.0.0.1:8781", true), ("http://localhost/x", true), ("http://[::1]:1/", true),
            ("http://127.0.0.1.example.org/", false), ("http://localhost@example.org/", false),
            ("http://example.org/?127.0.0.1", false), ("http://10.0.0.1", false), ("nonsense", false),
            ("http://127.0.0.1#@example.org/", true),
        ])
    func urls(url: String, expected: Bool) { #expect(isLoopbackURL(url) == expected) }
}

@Suite("A join token")
struct JoinTokenTests {
    static let digits = String(repeating: "0a", count: 24)

    @Test("A token is 48 hex digits, with or without a fingerprint")
    func forms() throws {
        #expect(try JoinToken(Self.digits).fingerprint == nil)
        let fingerprint = String(repeating: "f", count: 64)
        #expect(try JoinToken("\(Self.digits).\(fingerprint)").fingerprint == fingerprint)
    }

    @Test("Anything else is refused", arguments: ["", ".", digits + ".", digits + ".abc", "X" + digits, digits + "\n"])
    func refused(text: String) { #expect(throws: Failure.self) { try JoinToken(text) } }
}
