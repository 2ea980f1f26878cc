import Model
import Testing

@testable import CommandLine

@Suite("Output for people")
struct OutputTests {
    @Test("Columns are as wide as their widest cell; numbers stand to the right; the last column is not padded")
    func table() {
        var table = Table(["NAME", "VCPUS", "HOST"], numeric: [1])
        table.add(["first", "1", "a"])
        table.add(["a-longer-name", "16", "b"])
        #expect(
            table.text == """
                NAME           VCPUS  HOST
                first              1  a
                a-longer-name     16  b
                """)
    }

    @Test("What nobody can place on a host is a sentence each, with the ids that are known")
    func strays() {
        let strays: JSON = [
            "orphans": ["count": 3, "instances": ["a", "b"]], "unplaced": ["count": 0, "instances": []],
            "unknown": ["count": 1, "instances": ["c"]],
        ]
        #expect(
            strayLines(strays) == [
                "3 domains of ours without a record, left alone: a b …",
                "1 instances placed there of which the host knows nothing: c",
            ])
        #expect(strayLines(.null).isEmpty)
    }

    @Test("A host is shown with what it has and who holds it")
    func host() throws {
        let host: JSON = [
            "name": "kvm1",
            "service": ["is_disabled": true, "disabled_reason": "repair", "last_seen_at": "2026-01-01T00:00:00Z"],
            "report": [
                "uuid": "u", "allocation_ratios": ["vcpus": 4, "memory_mib": 1, "disk_gib": 1],
                "used": ["vcpus": 9, "memory_mib": 9, "disk_gib": 9], "traits": ["A", "B"], "shared_storage": "nfs",
            ],
            "now": [
                "total": ["vcpus": 8, "memory_mib": 1_024, "disk_gib": 10],
                "reserved": ["vcpus": 0, "memory_mib": 512, "disk_gib": 0],
                "used": ["vcpus": 1, "memory_mib": 640, "disk_gib": 2],
            ],
            "claims": [
                [
                    "instance_id": "i1", "since": "2026-01-01T00:00:01Z",
                    "resources": ["vcpus": 1, "memory_mib": 128, "disk_gib": 2],
                ]
            ],
            "events": [
                [
                    "at": "2026-01-01T00:00:01.5Z", "change": "claimed", "instance_id": "i1",
                    "resources": ["vcpus": 1, "memory_mib": 128, "disk_gib": 2],
                ]
            ],
        ]
        #expect(
            hostFacts(host) == """
                name           kvm1
                uuid           u
                service        disabled (repair)
                last heard of  2026-01-01T00:00:00Z
                vCPUs          1 of 8 used, ratio 4.0
                memory MiB     640 of 1024 used, 512 reserved
                disk GiB       2 of 10 used
                storage        shared (nfs)
                traits         A B
                """)
        #expect(
            claimTables(host, ["i1": "web"]) == [
                """
                INSTANCE  SERVER  VCPUS  MEMORY MIB  DISK GIB  SINCE                 ALSO
                i1        web         1         128         2  2026-01-01T00:00:01Z  
                """,
                """
                AT                      CHANGE   INSTANCE  VCPUS  MEMORY MIB  DISK GIB
                2026-01-01T00:00:01.5Z  claimed  i1            1         128         2
                """,
            ])
        #expect(claimTables(["claims": []], [:]) == ["Nobody holds anything of it."])
        #expect(
            claimTables(["claims_error": "no answer"], [:])
                == ["The host does not tell who holds what of it: no answer"])
    }

    @Test("A name cannot steer the terminal")
    func control() {
        var table = Table(["NAME"])
        table.add(["a\u{1b}[2Jb\nc"])
        #expect(table.text == "NAME\na [2Jb c")
    }

    @Test(
        "Sizes are readable",
        arguments: [
            (0, "0 B"), (1_023, "1023 B"), (1_024, "1.0 KiB"), (13_893_632, "13.3 MiB"),
            (42 * 1_024 * 1_024 * 1_024, "42.0 GiB"),
        ] as [(Int64, String)])
    func sizes(bytes: Int64, text: String) {
        #expect(readable(bytes: bytes) == text)
    }

    @Test(
        "The progress bar fits the terminal and ends full",
        arguments: [(0, 80), (50, 80), (100, 80), (100, 40), (100, 10), (0, 1)] as [(Int64, Int)])
    func bar(done: Int64, columns: Int) {
        let line = ProgressBar.line(done: done, total: 100, elapsed: .seconds(1), columns: columns)
        #expect(line.count == columns - 1)
        if columns == 80 {
            #expect(line.contains(" \(done) %"))
            #expect(line.filter { $0 == "#" }.count == 40 * Int(done) / 100)
        }
    }

    @Test("Nothing is drawn where there is no terminal")
    func silent() {
        let transcript = Transcript()
        let bar = ProgressBar(total: 10, terminal: transcript.terminal(columns: 0))
        bar.advance(by: 10)
        bar.finish()
        #expect(transcript.err.isEmpty)
    }

    @Test("On a terminal the bar is drawn in place and its line ended once")
    func drawn() {
        let transcript = Transcript()
        let bar = ProgressBar(total: 10, terminal: transcript.terminal(columns: 60))
        bar.advance(by: 10)
        bar.finish()
        #expect(transcript.err.hasPrefix("\r["))
        #expect(transcript.err.contains("100 %"))
        #expect(transcript.err.hasSuffix("\n"))
    }
}
