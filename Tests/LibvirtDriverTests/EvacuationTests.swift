import Foundation
import Model
import Testing

@testable import LibvirtDriver

@Suite("Disks of a host that is dead", .timeLimit(.minutes(2)))
struct EvacuationTests {
    private let first = MigrationID("dddddddd-1111-4111-8111-111111111111")
    private let second = MigrationID("dddddddd-2222-4222-8222-222222222222")

    @Test(
        "Disks that another host has made are seen, those that the migration itself makes are not, also when asked again"
    )
    func seen() async throws {
        let bench = try await MoveBench()
        let guest = MoveBench.guest()
        #expect(try await !bench.driver.seesDisks(Sample.id, besides: first))
        try await bench.make(guest)
        #expect(try await bench.driver.seesDisks(Sample.id, besides: first))
        let conflict = await #expect(throws: Failure.self) {
            try await bench.driver.beginTakingIn(Sample.id, by: first)
        }
        #expect(conflict?.kind == .conflict)
        // What is not the migration's own it does not remove.
        try await bench.driver.removeTakenOver(Sample.id, of: first)
        #expect(FileManager.default.fileExists(atPath: bench.path("disk")))
        try await bench.driver.removeDisks(Sample.id)

        for _ in 1...2 { try await bench.driver.beginTakingIn(Sample.id, by: first) }
        for _ in 1...2 { try await bench.driver.createDisks(guest) }
        #expect(try await !bench.driver.seesDisks(Sample.id, besides: first))
        #expect(try await bench.driver.seesDisks(Sample.id, besides: second))
        try await bench.driver.removeTakenOver(Sample.id, of: second)
        #expect(FileManager.default.fileExists(atPath: bench.path("disk")))
        for _ in 1...2 { try await bench.driver.removeTakenOver(Sample.id, of: first) }
        #expect(!FileManager.default.fileExists(atPath: bench.path("")))
        await bench.driver.stop()
    }

    @Test("Of hosts that share a folder each has its own records of addresses, the same after each start")
    func networks() throws {
        let folder = NSTemporaryDirectory() + "apus-networks-" + UUID().uuidString
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
        let hosts = ["kvm1", "kvm2", "kvm3"]
        let folders = try hosts.map { try NetworksFolder.own(in: folder, host: $0) }
        #expect(folders[0] == folder + "/_networks" && Set(folders).count == hosts.count)
        for (host, known) in zip(hosts, folders) {
            #expect(try NetworksFolder.own(in: folder, host: host) == known)
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder + "/_networks") == [".host"])
    }
}
