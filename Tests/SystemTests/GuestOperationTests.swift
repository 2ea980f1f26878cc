import Compute
import Foundation
import LibvirtDriver
import Model
import Testing

@Suite("Operations on guests that really run", .serialized, .enabled(if: isHypervisorTier))
struct GuestOperationTests {
    private typealias Guests = LibvirtDriverSystemTests

    /// The last tick on the console; 0 before the first.
    private static func tick(_ driver: LibvirtDriver, _ id: InstanceID) async throws -> Int {
        let lines = String(decoding: try await driver.consoleLog(id, limit: 100_000), as: UTF8.self)
            .split(whereSeparator: \.isNewline)
        return lines.last { $0.hasPrefix("tick ") }.flatMap { Int($0.dropFirst(5)) } ?? 0
    }

    /// Waits until the guest has ticked past `tick`: its processors run.
    private static func ticks(_ driver: LibvirtDriver, _ id: InstanceID, past tick: Int) async throws {
        let deadline = ContinuousClock.now + .seconds(90)
        while try await self.tick(driver, id) <= tick {
            guard ContinuousClock.now < deadline else { throw Failure(.timeout, "no tick after \(tick)") }
            try await Task.sleep(for: .milliseconds(200))
        }
    }

    @Test("A guest is paused, suspended, given a NIC and a password, and goes on ticking")
    func running() async throws {
        let image = try await TestImage.build(hasAgent: true)
        try await Guests.withDriver { driver, host in
            let instance = Guests.instance(memoryMiB: 128)
            var guest = try await Guests.build(driver, instance, image)
            let id = instance.id
            _ = try await Guests.console(driver, id, until: "tick")
            let booted = try await driver.diagnostics(id)
            #expect(booted.disks.first { $0.device == "vda" }?.readBytes ?? 0 > 0)

            try await driver.pause(id)
            #expect(try await driver.observe(id)?.powerState == .paused)
            let before = try await Self.tick(driver, id)
            try await Task.sleep(for: .seconds(3))
            #expect(try await Self.tick(driver, id) <= before + 1)
            try await driver.unpause(id)
            try await Self.ticks(driver, id, past: before + 1)

            try await driver.suspend(id)
            #expect(try await driver.observe(id)?.powerState == .shutdown)
            #expect(try await host.virsh("domstate", "--reason", instance.domainName).contains("(saved)"))
            try await driver.suspend(id)
            try await driver.resume(id)
            try await driver.resume(id)
            // The console's log begins anew with the process; a boot would begin at tick 1 after its banner.
            let resumed = try await Guests.console(driver, id, until: "tick")
            #expect(!resumed.contains { $0.contains("apus-guest: boot ") })
            #expect(try await Self.tick(driver, id) > before)

            let nic = try await driver.plugInterface(guest, key: "one", ipv4Address: nil, tag: nil)
            #expect(try await driver.plugInterface(guest, key: "one", ipv4Address: nil, tag: nil) == nic)
            guest.interfaces.append(nic)
            try await driver.attachInterface(nic, to: guest)
            try await driver.attachInterface(nic, to: guest)
            _ = try await Guests.console(driver, id, until: "mac \(nic.macAddress)")
            #expect(try await host.virsh("dumpxml", "--inactive", instance.domainName).contains(nic.macAddress))
            try await driver.detachInterface(nic, from: guest)
            _ = try await Guests.console(driver, id, until: "gone")
            for options in [["dumpxml"], ["dumpxml", "--inactive"]] {
                let text = try await tool("virsh", ["-q", "-c", host.uri] + options + [instance.domainName])
                #expect(!text.contains(nic.macAddress))
            }
            guest.interfaces.removeLast()
            try await driver.unplugInterface(nic, of: id)
            #expect(try await !host.virsh("net-dumpxml", "default").contains(nic.macAddress))

            #expect(try await driver.pingGuestAgent(id))
            try await driver.setPassword(id, user: "root", password: "n3w")
            _ = try await Guests.console(driver, id, until: "root password")

            let diagnostics = try await driver.diagnostics(id)
            #expect(diagnostics.powerState == .running && diagnostics.hasConfigDrive)
            #expect(diagnostics.processors.first?.timeNanoseconds ?? 0 > 0)
            #expect(diagnostics.interfaces.map(\.macAddress) == guest.interfaces.map(\.macAddress))
            #expect(diagnostics.disks.contains { $0.device == "vda" })
            #expect(diagnostics.memoryMaximumMiB == 128)
            try await driver.injectNMI(id)

            try await driver.suspend(id)
            try await driver.discardSavedMemory(id)
            let failure = await #expect(throws: Failure.self) { try await driver.resume(id) }
            #expect(failure?.kind == .notFound)
            #expect(try await driver.observe(id)?.powerState == .shutdown)
            try await Guests.remove(driver, guest)
        }
    }

    @Test("A guest is rescued from another disk with its own beside it, goes back to that, and is rebuilt")
    func disks() async throws {
        let image = try await TestImage.build(hasAgent: true)
        try await Guests.withDriver { driver, host in
            let instance = Guests.instance(memoryMiB: 128)
            var guest = try await Guests.build(driver, instance, image)
            let id = instance.id
            let first = try await Guests.console(driver, id, until: "tick")
            #expect(first.contains { $0.contains("device vda 1024 MiB") && $0.contains("boots 1") })

            try await driver.powerOff(id, grace: .zero)
            guest.rescueImage = image.reference
            try await driver.createRescueDisks(guest)
            try await driver.writeConfigDrive(guest, secrets: ConfigDriveSecrets(adminPassword: "r3scue"))
            try await driver.define(guest)
            try await driver.powerOn(id)
            let rescued = try await Guests.console(driver, id, until: "tick")
            // The rescue's disk is young and has its image's size; the guest's own one is second.
            #expect(rescued.contains { $0.contains("device vda") && $0.contains("boots 1") })
            #expect(!rescued.contains { $0.contains("device vda 1024 MiB") })
            #expect(rescued.contains { $0.contains("device vdb 1024 MiB") })
            #expect(rescued.contains { $0.contains("apus-guest: uuid \(id)") })

            try await driver.powerOff(id, grace: .zero)
            guest.rescueImage = nil
            try await driver.define(guest)
            try await driver.removeRescueDisks(id)
            try await driver.powerOn(id)
            let back = try await Guests.console(driver, id, until: "tick")
            #expect(back.contains { $0.contains("device vda 1024 MiB") && $0.contains("boots 2") })
            let left = try FileManager.default.contentsOfDirectory(atPath: host.instancesPath + "/" + id.rawValue)
            #expect(!left.contains { $0.contains("rescue") && !$0.contains("info") })

            try await driver.powerOff(id, grace: .zero)
            try await driver.undefine(id)
            try await driver.removeDisks(id)
            try await driver.createDisks(guest)
            try await driver.writeConfigDrive(guest, secrets: ConfigDriveSecrets())
            try await driver.define(guest)
            try await driver.powerOn(id)
            let rebuilt = try await Guests.console(driver, id, until: "tick")
            #expect(rebuilt.contains { $0.contains("device vda 1024 MiB") && $0.contains("boots 1") })
            #expect(Guests.value("mac", in: rebuilt) == guest.interfaces.first?.macAddress)
            try await Guests.remove(driver, guest)
        }
    }
}
