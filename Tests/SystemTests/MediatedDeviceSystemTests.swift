import Compute
import LibvirtDriver
import Model
import Testing

@Suite("Mediated devices, on a real host", .serialized, .enabled(if: isHypervisorTier), .timeLimit(.minutes(5)))
struct MediatedDeviceSystemTests {
    @Test("libvirt is asked for what there is; it makes none of a device that does not exist, and has none to remove")
    func absent() async throws {
        try await LibvirtDriverSystemTests.withDriver { driver, _ in
            // A machine may have none; what it has is told whole.
            for parent in try await driver.mediatedDeviceParents() {
                #expect(!parent.types.isEmpty && parent.address.utf8.count >= 12)
            }
            let device = MediatedDevice(
                parentAddress: "ffff:ff:1f.7", type: "none-1", uuid: "e55bf865-6983-4d53-967f-51e8a3bb0f57")
            let failure = await #expect(throws: Failure.self) { try await driver.createMediatedDevices([device]) }
            #expect(failure?.message.hasPrefix("making a none-1 of ffff:ff:1f.7: ") == true, "\(failure as Any)")
            try await driver.removeMediatedDevices([device])
        }
    }
}
