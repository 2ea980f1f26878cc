import Database
import HTTP
import Images
import Model
import Tasks
import Testing

@testable import ComputeAPI

@Suite("What a resize or a migration is refused for")
struct MoveRefusalTests {
    /// What is wrong with a flavor or a server that are right otherwise, and what is said of it.
    struct Wrong: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let said: String
        let change: @Sendable (inout Flavor, inout Instance) -> Void

        init(_ what: String, _ said: String, change: @escaping @Sendable (inout Flavor, inout Instance) -> Void) {
            (testDescription, self.said, self.change) = (what, said, change)
        }
    }

    private static let wrongs = [
        Wrong("disabled", "Flavor wanted could not be found.") { flavor, _ in flavor.isDisabled = true },
        Wrong("of others", "Flavor wanted could not be found.") { flavor, _ in flavor.isPublic = false },
        Wrong("smaller root disk", "resize disk down") { _, server in server.flavor.rootGiB = 3 },
        Wrong("root disk of the image's size", "resize disk down") { flavor, _ in flavor.rootGiB = 0 },
        Wrong("smaller ephemeral disk", "resize disk down") { _, server in server.flavor.ephemeralGiB = 3 },
        Wrong("less than the disks the user asked for", "the server has 1 and 3.") { _, server in
            server.flavor.ephemeralGiB = 9
            server.localDisks = LocalDisks(ephemerals: [.init(sizeGiB: 2), .init(sizeGiB: 1)])
        },
        Wrong("smaller ephemeral disk, and a swap the user asked for", "the server has 1 and 3.") { _, server in
            server.flavor.ephemeralGiB = 3
            server.localDisks = LocalDisks(swapMiB: 1)
        },
        Wrong("no such guest", "hw:cpu_realtime (flavor extra spec) = 'yes'") { flavor, _ in
            flavor.extraSpecs["hw:cpu_realtime"] = "yes"
        },
        Wrong("no such guest of the image as it was", "hw_cpu_sockets") { _, server in
            server.imageProperties = ["hw_cpu_sockets": "many"]
        },
        Wrong("unknown PCI alias", "PCI alias tpu is not defined") { flavor, _ in
            flavor.extraSpecs["pci_passthrough:alias"] = "tpu:1"
        },
        Wrong("TPM that the server has", "Operation 'resize' not supported for vTPM-enabled instance") { _, server in
            server.flavor.extraSpecs["hw:tpm_version"] = "2.0"
        },
        Wrong("TPM that it would get", "Operation 'resize' not supported for vTPM-enabled instance") { flavor, _ in
            flavor.extraSpecs["hw:tpm_version"] = "2.0"
        },
    ]

    /// A cloud that knows one PCI alias, a server of 1 GiB, and a flavor `wanted` of 2 GiB and as much ephemeral disk.
    private static func cloud(
        _ change: @escaping @Sendable (inout Flavor, inout Instance) -> Void
    ) async throws -> (ComputeFixture, Instance) {
        var settings = APISettings(operationPatience: .zero)
        settings.pciAliases = ["gpu"]
        let cloud = try await ComputeFixture(settings: settings)
        let wanted = Flavor(
            id: FlavorID("wanted"), name: "wanted", vcpus: 1, memoryMiB: 1_024, rootGiB: 2, ephemeralGiB: 2)
        let server = try await cloud.placed { instance in
            var flavor = wanted
            change(&flavor, &instance)
        }
        var (flavor, ignored) = (wanted, server)
        change(&flavor, &ignored)
        try await cloud.database.flavors.create(flavor, now: cloud.clock.now)
        return (cloud, server)
    }

    private static let resize: JSON = ["resize": ["flavorRef": "wanted"]]

    @Test("A flavor that the server cannot have, or may not, is 400 and changes nothing", arguments: wrongs)
    func flavor(wrong: Wrong) async throws {
        let (cloud, server) = try await Self.cloud(wrong.change)
        let reply = try await cloud.act(server, Self.resize)
        #expect(reply.status == 400 && reply.message.contains(wrong.said), "\(reply.message)")
        try await expectNothing(cloud, server)
    }

    @Test("What is right is not refused: as much ephemeral disk, a private flavor for whom it is, a known alias")
    func right() async throws {
        let rights: [@Sendable (inout Flavor, inout Instance) -> Void] = [
            { _, _ in },
            { _, server in
                server.flavor.ephemeralGiB = 9
                server.localDisks = LocalDisks(ephemerals: [.init(sizeGiB: 1), .init(sizeGiB: 1)])
            },
            { flavor, _ in flavor.extraSpecs["pci_passthrough:alias"] = "gpu:1" },
            // As large as the image, which is of 1 GiB.
            { _, server in server.flavor.rootGiB = 0 },
        ]
        for (index, right) in rights.enumerated() {
            let (cloud, server) = try await Self.cloud(right)
            let reply = try await cloud.act(server, Self.resize)
            #expect(reply.status == 202, "\(index): \(reply.message)")
        }
        let (cloud, server) = try await Self.cloud { flavor, _ in flavor.isPublic = false }
        _ = try await cloud.database.flavorAccess.grant(FlavorID("wanted"), to: ProjectID("p1"))
        #expect(try await cloud.act(server, Self.resize).status == 202)
    }

    @Test("What the image needs at least the new flavor must have")
    func image() async throws {
        let needs: [(said: String, change: (inout ImageRecord) -> Void)] = [
            ("memory is too small", { $0.minMemoryMiB = 1_025 }), ("minimum size", { $0.minDiskGiB = 3 }),
            ("disk is too small", { $0.virtualSizeBytes = 3 << 30 }),
        ]
        for (said, change) in needs {
            let (cloud, server) = try await Self.cloud { _, server in server.flavor.rootGiB = 0 }
            var image = try #require(try await cloud.images.find(server.imageID))
            change(&image)
            #expect(try await cloud.images.replace(image))
            let reply = try await cloud.act(server, Self.resize)
            #expect(reply.status == 400 && reply.message.contains(said), "\(reply.message)")
            try await expectNothing(cloud, server)
        }
    }

    @Test("A server with a TPM in software is not migrated either")
    func virtualTPM() async throws {
        let cloud = try await ComputeFixture()
        let server = try await cloud.placed { $0.imageProperties = ["hw_tpm_version": "2.0"] }
        let reply = try await cloud.act(server, ["migrate": .null], as: "admin")
        #expect(reply.status == 400)
        #expect(reply.message == "Operation 'migrate' not supported for vTPM-enabled instance (\(server.id)).")
        try await expectNothing(cloud, server)
    }

    @Test("While the server's host is down nothing is moved: 409")
    func sourceDown() async throws {
        let (cloud, server) = try await Self.cloud { _, _ in }
        cloud.clock.advance(by: .seconds(60))
        try await cloud.addHost("kvm2", uuid: "7f9619ff-8b86-4011-b42d-00c04fc964ff")
        for body in [Self.resize, ["migrate": .null], ["migrate": ["host": "kvm2"]]] {
            let reply = try await cloud.act(server, body, version: "2.56", as: "admin")
            #expect(reply.status == 409 && reply.message.contains("is down"), "\(reply.message)")
        }
        try await expectNothing(cloud, server)
    }

    @Test("A host that is named must be enabled and up: 400 that says so", arguments: [true, false])
    func destination(isDown: Bool) async throws {
        let cloud = try await ComputeFixture()
        let server = try await cloud.placed()
        if isDown {
            cloud.clock.advance(by: .seconds(60))
            try await cloud.addHost()
        } else {
            let service = try await cloud.database.services.find(host: HostName("kvm2"), binary: "nova-compute")
            _ = try await cloud.database.services.change(uuid: try #require(service?.uuid), isDisabled: true)
        }
        let body: JSON = ["migrate": ["host": "kvm2"]]
        let reply = try await cloud.act(server, body, version: "2.56", as: "admin")
        #expect(reply.status == 400 && reply.message == "Compute host kvm2 is disabled or down.")
        try await expectNothing(cloud, server)
        // Where to is the scheduler's to say then.
        #expect(try await cloud.act(server, ["migrate": .null], as: "admin").status == 202)
    }

    @Test(
        "A body with anything else in it is 400",
        arguments: [
            #"{"resize":{"flavorRef":"wanted","OS-DCF:diskConfig":"SOMEHOW"}}"#, #"{"resize":{"flavorRef":1}}"#,
            #"{"migrate":{"host":""}}"#, #"{"migrate":{"host":"kvm2","more":1}}"#, #"{"migrate":{"host":1}}"#,
            #"{"migrate":"kvm2"}"#,
        ])
    func bodies(body: String) async throws {
        let (cloud, server) = try await Self.cloud { _, _ in }
        let json = try JSON(parsing: Array(body.utf8))
        #expect(try await cloud.act(server, json, version: "2.56", as: "admin").status == 400)
        try await expectNothing(cloud, server)
    }

    private func expectNothing(_ cloud: ComputeFixture, _ server: Instance) async throws {
        #expect(try await cloud.database.instances.find(server.id) == server)
        #expect(try await cloud.database.migrations.list(MigrationQuery()).isEmpty)
        #expect(try await cloud.newest(of: server).kind == TaskKind.build)
    }
}
