import Compute
import Foundation
import Libvirt
import Model
import Testing

@testable import LibvirtDriver

/// What Linux calls file systems, as its `linux/magic.h` and the sources of those that are not in it say.
@Suite("Storage that hosts share, and storage of a host alone")
struct SharedStorageTests {
    @Test(
        "File systems that other hosts may use are shared, by the kernel's number",
        arguments: [
            (0x6969, "nfs"), (0x517B, "smb"), (0xFF53_4D42, "smb"), (0xFE53_4D42, "smb"), (0x00C3_6400, "cephfs"),
            (0x0116_1970, "gfs2"), (0x7461_636F, "ocfs2"), (0x0BD0_0BD0, "lustre"), (0x0102_1997, "9p"),
            (0x6573_5546, "fuse"), (0x4750_4653, "gpfs"),
        ])
    func shared(number: Int64, kind: String) throws {
        #expect(try Files.sharedFileSystem(at: "/srv", number: { $0 == "/srv" ? number : 0xEF53 }) == kind)
    }

    @Test(
        "Disks of a host are its own",
        arguments: [
            0xEF53, 0x5846_5342, 0x9123_683E, 0x2FC1_2FC1, 0x0102_1994, 0x8584_58F6, 0x794C_7630, 0xF2F5_2010,
        ])
    func local(number: Int64) throws { #expect(try Files.sharedFileSystem(at: "/srv", number: { _ in number }) == nil) }

    @Test("A number of 32 bits with a sign is the same number")
    func signed() throws {
        let number = Int64(Int32(bitPattern: 0xFE53_4D42))
        #expect(try Files.sharedFileSystem(at: "/srv", number: { _ in number }) == "smb")
    }

    @Test("What the kernel says of this machine's own folders is that nobody shares them; of none, that there is none")
    func kernel() throws {
        for path in ["/proc", "/sys"] { #expect(try Files.sharedFileSystem(at: path) == nil) }
        let failure = #expect(throws: Failure.self) { _ = try Files.sharedFileSystem(at: "/nowhere/at/all") }
        #expect(failure?.kind == .storage && failure?.message.contains("/nowhere/at/all") == true)
    }

    @Test("The host's capacity tells of the instances' folder whether it is shared", arguments: ["nfs", nil])
    func capacity(kind: String?) async throws {
        let folder = try TemporaryFolder()
        let node = try folder.write(Array("<node/>".utf8), to: "node.xml")
        let driver = LibvirtDriver(
            configuration: try Sample.configuration(folder), host: LibvirtHost(uri: "test://" + node),
            domainType: "test", clock: ContinuousClock(), soleRole: .control,
            fileSystemNumber: { path in
                // Of that folder and no other.
                (path == folder.path + "/instances") == (kind != nil) ? 0x6969 : 0xEF53
            })
        try await driver.start()
        #expect(try await driver.capacity().sharedStorage == kind)
        await driver.stop()
    }
}
