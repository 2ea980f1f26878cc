import Model
import Testing

@testable import CommandLine

@Suite("What the doctor makes of a machine")
struct HostCheckTests {
    @Test(
        "Free space: enough, little, too little",
        arguments: [(500, Finding.Level.ok), (50, .warning), (5, .problem)] as [(Int64, Finding.Level)])
    func space(free: Int64, level: Finding.Level) {
        #expect(HostChecks.space("space", path: "/x", freeBytes: free, least: 10).level == level)
    }

    @Test(
        "A clock far from the control plane's is a problem, whichever way",
        arguments: [
            (0, Finding.Level.ok), (2, .ok), (-5, .warning), (10, .warning), (-60, .problem), (3_600, .problem),
        ]
            as [(Int64, Finding.Level)])
    func clock(apart: Int64, level: Finding.Level) {
        let control = Timestamp(seconds: 1_800_000_000)
        #expect(HostChecks.clock(control + .seconds(apart), control: control).level == level)
    }

    @Test(
        "The metadata's address is ours, free, or another's",
        arguments: [
            (true, nil, Finding.Level.ok), (true, "virbr0:apus", .ok), (true, "eth0", .warning), (false, "eth0", .ok),
        ] as [(Bool, String?, Finding.Level)])
    func metadata(isOn: Bool, label: String?, level: Finding.Level) {
        #expect(HostChecks.metadata(isOn: isOn, label: label).level == level)
    }

    @Test("A date that cannot be is a problem")
    func date() {
        #expect(HostChecks.date(Timestamp(seconds: 0)).level == .problem)
        #expect(HostChecks.date(Timestamp(iso8601: "2026-11-22T12:00:00Z") ?? Timestamp(seconds: 0)).level == .ok)
    }

    @Test(
        "A port is free, ours, or somebody else's",
        arguments: [
            (nil, 7, Finding.Level.ok), (7, 7, .ok), (8, 7, .problem), (8, nil, .problem), (0, 7, .problem),
        ] as [(Int32?, Int32?, Finding.Level)])
    func ports(listener: Int32?, own: Int32?, level: Finding.Level) {
        #expect(HostChecks.port("api", port: 8774, listener: listener, own: own).level == level)
    }

    @Test("Listening sockets are found in the kernel's table by port and state")
    func table() {
        let table = """
              sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
               0: 0100007F:2246 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0
               1: 0100007F:2246 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0
               2: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 100 0
            """
        #expect(ProcessTable.listeningInodes(table: table, port: 8774) == ["4711"])
        #expect(ProcessTable.listeningInodes(table: table, port: 8775).isEmpty)
    }

    @Test(
        "The Date header of an answer is read",
        arguments: [
            ("Sun, 22 Nov 2026 20:51:16 GMT", "2026-11-22T20:51:16Z"), ("Sun, 22 Nov 2026 20:51:16 CET", nil),
            ("", nil),
            ("Sun, 22 Nix 2026 20:51:16 GMT", nil),
        ] as [(String, String?)])
    func dateHeader(text: String, expected: String?) {
        #expect(httpDate(text)?.iso8601 == expected)
    }

    @Test("Every line that is not ok says what to do")
    func advice() {
        let finding = Finding.problem("qemu-img", "not found", "apt-get install qemu-utils")
        #expect(finding.line(width: 10) == "problem  qemu-img    not found: apt-get install qemu-utils")
        #expect(Finding.ok("kvm", "works").line(width: 5) == "ok       kvm    works")
    }
}
