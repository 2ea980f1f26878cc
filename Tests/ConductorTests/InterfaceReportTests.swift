import Database
import Model
import RPC
import Tasks
import Telemetry
import Testing

@testable import Conductor

@Suite("Interfaces that hosts tell again", .timeLimit(.minutes(2)))
struct InterfaceReportTests {
    private static let right = [
        NetworkInterface(network: "blue", macAddress: "52:54:00:00:00:01", ipv4Address: "192.0.2.9"),
        NetworkInterface(network: "red", macAddress: "52:54:00:00:00:02", ipv4Address: "198.51.100.7"),
    ]
    private static let wrong = [
        NetworkInterface(network: "blue", macAddress: "52:54:00:00:00:01", ipv4Address: "192.0.2.200")
    ]

    /// What `heal_instance_info_cache` of an agent sends.
    private func tell(
        _ host: PlayedHost, _ instance: Instance, fence: Fence? = nil, _ interfaces: [NetworkInterface]?,
        sequence: Int64 = 100
    ) async throws {
        _ = try await host.conductor.call(
            ReportInstance.self,
            .init(
                host: host.name, instance: instance.id, fence: fence ?? instance.fence, vmState: .active,
                powerState: .running, taskState: nil, interfaces: interfaces, sequence: sequence,
                observedAt: WallClock.now()))
    }

    /// A guest whose record has lost one interface, and another's address.
    private func damaged(_ plane: ControlPlane) async throws -> Instance {
        let made = try await plane.running()
        return try await plane.database.instances.update(made.id, now: WallClock.now()) { $0.interfaces = Self.wrong }
    }

    @Test("A record that has the interfaces otherwise is mended, and nothing else of it is changed")
    func mended() async throws {
        try await ControlPlane.with { plane in
            let host = try await plane.addHost("kvm1")
            let before = try await damaged(plane)
            try await tell(host, before, Self.right)
            var after = try #require(try await plane.database.instances.find(before.id))
            #expect(after.interfaces == Self.right && after.updatedAt > before.updatedAt)
            (after.interfaces, after.updatedAt) = (before.interfaces, before.updatedAt)
            #expect(after == before)
            // Said once more it is no change, which clients would otherwise see by `changes-since`.
            let mended = try await plane.database.instances.find(before.id)
            try await tell(host, before, Self.right, sequence: 101)
            #expect(try await plane.database.instances.find(before.id) == mended)
            // A host that does not say leaves what is known; one that says there is none is believed.
            try await tell(host, before, nil, sequence: 102)
            #expect(try await plane.database.instances.find(before.id)?.interfaces == Self.right)
            try await tell(host, before, [], sequence: 103)
            #expect(try await plane.database.instances.find(before.id)?.interfaces == [])
        }
    }

    @Test("Another host than the guest's, and one that knows of an older command only, mend nothing")
    func disbelieved() async throws {
        try await ControlPlane.with { plane in
            let host = try await plane.addHost("kvm1")
            let before = try await damaged(plane)
            let stranger = try await plane.addHost("kvm2")
            let refusal = await #expect(throws: Failure.self) { try await tell(stranger, before, Self.right) }
            #expect(refusal?.kind == .forbidden)
            try await tell(host, before, fence: Fence(generation: before.fence.generation - 1, epoch: 0), Self.right)
            #expect(try await plane.database.instances.find(before.id) == before)
        }
    }

    @Test("While something is under way the report waits; with its end the record is mended")
    func postponed() async throws {
        try await ControlPlane.with { plane in
            let host = try await plane.addHost("kvm1")
            let before = try await damaged(plane)
            host.answer("pause", .stayQuiet)
            let task = try await plane.accept(
                .pause, before.id, kind: TaskKind.guest, GuestTaskState(instance: before.id, command: .pause))
            let header = try await eventually("the command") { host.commands("pause").first }
            try await tell(host, before, fence: header.fence, Self.right, sequence: 200)
            #expect(try await plane.database.instances.find(before.id)?.interfaces == Self.wrong)
            try await host.finish(header, vmState: .paused, sequence: 150)
            #expect(try await plane.waitForEnd(of: task).status == .succeeded)
            #expect(try await plane.database.instances.find(before.id)?.interfaces == Self.right)
        }
    }
}
