import Compute
import Configuration
import Crypto
import Foundation
import Model

@testable import LibvirtDriver

/// A folder of a test's own, removed with it.
final class TemporaryFolder: Sendable {
    let path: String

    init() throws {
        path = FileManager.default.temporaryDirectory.path + "/apus-driver-" + makeUUID()
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func write(_ bytes: [UInt8], to name: String) throws -> String {
        try Data(bytes).write(to: URL(fileURLWithPath: path + "/" + name))
        return path + "/" + name
    }

    var names: [String] {
        get throws { try FileManager.default.contentsOfDirectory(atPath: path).sorted() }
    }
}

func contents(_ path: String) throws -> String {
    String(decoding: try Data(contentsOf: URL(fileURLWithPath: path)), as: UTF8.self)
}

func mode(_ path: String) throws -> Int? {
    try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
}

enum Sample {
    static let id = InstanceID("6ba7b810-9dad-41d1-80b4-00c04fd430c8")

    static func flavor(root: Int = 1, ephemeral: Int = 0, swap: Int = 0) -> Flavor {
        Flavor(
            id: FlavorID("1"), name: "m1.nano", vcpus: 2, memoryMiB: 128, rootGiB: root, ephemeralGiB: ephemeral,
            swapMiB: swap, extraSpecs: ["hw:cpu_policy": "shared", "a": "1"])
    }

    static func instance(
        _ id: InstanceID = id, number: Int64 = 42, name: String = "web", flavor: Flavor = flavor()
    ) -> Instance {
        Instance(
            id: id, number: number, projectID: ProjectID("p1"), userID: UserID("u1"), name: name, hostname: "web",
            flavor: flavor, imageID: ImageID("i1"), keyName: "laptop", publicKey: "ssh-ed25519 AAAA me",
            metadata: ["role": "front", "colour": "blue"], reservationID: "r-1",
            createdAt: Timestamp(seconds: 1_700_000_000))
    }

    static func image(_ bytes: [UInt8], format: DiskFormat = .raw, virtualSize: Int64? = nil) -> ImageReference {
        ImageReference(
            id: ImageID("i1"), format: format, sizeBytes: Int64(bytes.count),
            virtualSizeBytes: virtualSize ?? Int64((bytes.count + 511) / 512 * 512),
            sha512: Hex.encode(digest(.sha512, of: bytes)))
    }

    static let interface = NetworkInterface(
        network: "default", macAddress: "fa:16:3e:01:02:03", ipv4Address: "192.168.122.7")

    static func guest(
        _ instance: Instance = instance(), image: ImageReference = image([1]),
        interfaces: [NetworkInterface] = [interface]
    ) -> GuestSpecification {
        GuestSpecification(instance: instance, image: image, interfaces: interfaces)
    }

    static func settings(virtType: String = "kvm") -> DomainSettings {
        DomainSettings(
            virtType: virtType, architecture: "x86_64", machineType: "pc",
            cpu: CPUSettings(mode: virtType == "kvm" ? .hostModel : .none), diskCache: "none",
            randomDevice: "/dev/urandom",
            memoryStatisticsPeriod: 10, network: .libvirt("default"), version: "1.2.3")
    }

    /// The options of the driver over `folder`, with every address reserved and released one by one.
    static func configuration(_ folder: TemporaryFolder, _ values: [String: String] = [:]) throws -> Configuration {
        try Configuration(
            options: LibvirtDriverOptions.all + CommonOptions.all,
            values: ["DEFAULT.state_path": folder.path, "compute.spare_addresses": "0"].merging(values) { $1 })
    }
}
