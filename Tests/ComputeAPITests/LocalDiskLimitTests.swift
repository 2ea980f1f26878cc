import ComputeAPI
import Database
import HTTP
import Model
import Testing

@Suite("How many local disks a creation may ask for")
struct LocalDiskLimitTests {
    private static let blank: JSON = [
        "source_type": "blank", "destination_type": "local", "boot_index": -1, "volume_size": 1,
    ]

    @Test(
        "is what the option says, the root disk counted whether it is named or not",
        arguments: [(3, 2, 202), (3, 3, 400), (1, 0, 202), (1, 1, 400), (-1, 8, 202)])
    func limit(limit: Int, blanks: Int, status: Int) async throws {
        let boot: JSON = [
            "source_type": "image", "destination_type": "local", "boot_index": 0,
            "uuid": .string(ComputeFixture.image),
        ]
        let cloud = try await ComputeFixture(
            settings: APISettings(operationPatience: .zero, maxLocalBlockDevices: limit))
        _ = try await cloud.database.flavors.update(FlavorID("42")) { $0.ephemeralGiB = 8 }
        let disks = Array(repeating: Self.blank, count: blanks)
        for devices in [[boot] + disks, disks] {
            let reply = await cloud.send(
                .post, "servers", ComputeFixture.server(["block_device_mapping_v2": .array(devices)]))
            #expect(reply.status == status, "\(reply.message)")
        }
    }
}
