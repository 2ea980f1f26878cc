import Compute
import Foundation
import Model
import Testing
import XML

@testable import Libvirt
@testable import LibvirtDriver

@Suite("Copies of root disks, in parts")
struct SnapshotTests {
    private static let id = InstanceID("6f1f4a3c-2b1e-4f0d-9a55-0123456789ab")
    private static let name = "11111111-2222-4333-8444-555555555555"

    @Test("The job names the root disk by its file, its target's format, and leaves every other disk out")
    func document() throws {
        let domain = try XMLNode(
            parsing: """
                <domain><devices>
                <disk type='file' device='cdrom'><source file='/i/disk.config'/><target dev='hda'/></disk>
                <disk type='file' device='disk'><source file='/i/disk'/><target dev='vda'/></disk>
                <disk type='file' device='disk'><source file='/i/disk.local'/><target dev='vdb'/></disk>
                </devices></domain>
                """)
        let text = try BackupDocument.make(of: domain, disk: "/i/disk", to: "/s/a&b.part", format: .qcow2)
        let made = try XMLNode(parsing: text)
        #expect(made.name == "domainbackup" && made["mode"] == "push")
        let disks = made.all("disks/disk")
        #expect(disks.map { $0["name"] } == ["vda", "hda", "vdb"])
        #expect(disks.map { $0["backup"] } == ["yes", "no", "no"])
        #expect(disks[0].first("driver")?["type"] == "qcow2")
        #expect(BackupDocument.targets(text) == ["/s/a&b.part"])
        #expect(throws: Failure.self) {
            try BackupDocument.make(of: domain, disk: "/i/other", to: "/s/x", format: .raw)
        }
    }

    @Test(
        "A guest agent that hangs, or is not there, is asked once: the reason says agent, and is not for another try",
        arguments: [LibvirtError.Code.agentUnresponsive, .agentMissing, .operationTimeout])
    func hangingAgent(code: LibvirtError.Code) {
        let error = LibvirtError(code, call: "virDomainFSFreeze", message: "Guest agent not available for now")
        let failure = LibvirtDriver.agentFailure(error, "instance-1")
        #expect(!failure.isRetriable && failure.message.contains("guest agent of instance-1"))
        #expect(failure.kind == (code == .agentMissing ? .conflict : .timeout))
    }

    @Test("Files of copies are told from others by uuids alone, and no name leads out of the folder")
    func place() throws {
        let place = try SnapshotPlace(Self.id, Self.name, in: "/i")
        #expect(place.file(.qcow2) == "/i/snapshots/\(Self.id).\(Self.name).qcow2")
        for path in [place.file(.raw), place.unfinished, place.frozenMark] {
            let file = String(path.split(separator: "/").last ?? "")
            #expect(SnapshotPlace.owner(of: file) == SnapshotName(instance: Self.id, name: Self.name))
        }
        for file in ["lost+found", "a.b.qcow2", "\(Self.id).qcow2", "\(Self.id).\(Self.name)"] {
            #expect(SnapshotPlace.owner(of: file) == nil)
        }
        #expect(throws: Failure.self) { try SnapshotPlace(Self.id, "../x", in: "/i") }
        #expect(throws: Failure.self) { try SnapshotPlace(InstanceID("../x"), Self.name, in: "/i") }
    }

    @Test(
        "An agent counts as there only while it holds its channel open",
        arguments: [("connected", true), ("disconnected", false), (nil, false)])
    func agent(state: String?, isConnected: Bool) throws {
        let attribute = state.map { " state='\($0)'" } ?? ""
        let domain = try XMLNode(
            parsing: """
                <domain><devices><channel type='unix'>
                <target type='virtio' name='org.qemu.guest_agent.0'\(attribute)/></channel></devices></domain>
                """)
        #expect(GuestFreeze.isAgentConnected(domain) == isConnected)
    }

    @Test("How a job ended reaches those who wait for it, and nobody else")
    func watch() async {
        let jobs = JobWatch()
        let (ours, other) = (jobs.subscribe(Self.id), jobs.subscribe(InstanceID(Self.name)))
        let end = JobEnd(uuid: Self.id.rawValue, operation: .backup, isSuccessful: true)
        jobs.tell(Self.id, .ended(end))
        jobs.lose()
        var (first, second) = (ours.news.makeAsyncIterator(), other.news.makeAsyncIterator())
        #expect(await first.next() == .ended(end))
        #expect(await first.next() == .lost)
        #expect(await second.next() == .lost)
    }

    @Test("A job's end is read from libvirt's parameters; without a word of success it has failed")
    func jobEnd() {
        let success: [String: TypedValue] = ["operation": .integer(9), "success": .boolean(true)]
        #expect(
            JobEnd(uuid: "u", success) == JobEnd(uuid: "u", operation: .backup, isSuccessful: true))
        let failure: [String: TypedValue] = ["operation": .integer(9), "errmsg": .text("No space")]
        #expect(
            JobEnd(uuid: "u", failure)
                == JobEnd(uuid: "u", operation: .backup, isSuccessful: false, errorMessage: "No space"))
        #expect(JobEnd(uuid: "u", [:]).operation == .other(nil))
    }

    @Test(
        "A piece of a file is what lies there, and less at its end", arguments: [(0, 10), (5, 100), (99, 1), (200, 4)])
    func piece(offset: Int, count: Int) throws {
        let folder = try TemporaryFolder()
        let content = (0..<100).map { UInt8($0) }
        try Data(content).write(to: URL(fileURLWithPath: folder.path + "/file"))
        let read = try Files.readPiece(folder.path + "/file", from: Int64(offset), count: count)
        #expect(read == Array(content.dropFirst(offset).prefix(count)))
        #expect(throws: Failure.self) { try Files.readPiece(folder.path + "/other", from: 0, count: 1) }
    }
}
