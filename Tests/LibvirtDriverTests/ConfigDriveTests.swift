import Compute
import Crypto
import Foundation
import Model
import Processes
import Telemetry
import Testing

@testable import LibvirtDriver

@Suite("Config drive")
struct ConfigDriveTests {
    private func content(
        _ guest: GuestSpecification = Sample.guest(), password: String? = nil
    ) throws -> [String: JSON] {
        let content = try ConfigDriveContent(guest, adminPassword: password, seed: [1, 2, 3])
        return Dictionary(
            uniqueKeysWithValues: try content.files.filter { $0.name.hasSuffix(".json") }.map {
                ($0.name, try JSON(parsing: $0.bytes))
            })
    }

    @Test("meta_data.json says who the guest is")
    func metadata() throws {
        let metadata = try #require(try content(password: "s3cret")["meta_data.json"])
        #expect(
            metadata
                == .object([
                    "uuid": .string(Sample.id.rawValue), "name": .string("web"), "hostname": .string("web"),
                    "launch_index": .integer(0), "availability_zone": .string("nova"), "project_id": .string("p1"),
                    "meta": .object(["role": .string("front"), "colour": .string("blue")]),
                    "public_keys": .object(["laptop": .string("ssh-ed25519 AAAA me")]),
                    "keys": .array([
                        .object([
                            "name": .string("laptop"), "type": .string("ssh"), "data": .string("ssh-ed25519 AAAA me"),
                        ])
                    ]),
                    "random_seed": .string("AQID"), "admin_pass": .string("s3cret"), "devices": .array([]),
                ]))
    }

    @Test("Without key pair and password their members are missing")
    func absent() throws {
        var guest = Sample.guest()
        (guest.instance.keyName, guest.instance.publicKey) = (nil, nil)
        let metadata = try #require(try content(guest)["meta_data.json"])
        #expect(metadata["keys"] == nil && metadata["public_keys"] == nil && metadata["admin_pass"] == nil)
    }

    @Test("network_data.json names each NIC and how it gets its address")
    func network() throws {
        let network = try #require(try content()["network_data.json"])
        #expect(network["links"]?.list?.first?["ethernet_mac_address"]?.text == "fa:16:3e:01:02:03")
        let first = try #require(network["networks"]?.list?.first)
        #expect(first["type"]?.text == "ipv4_dhcp")
        #expect(first["link"] == network["links"]?.list?.first?["id"])
        #expect(first["ip_address"]?.text == "192.168.122.7")
        #expect(try content(Sample.guest(interfaces: []))["network_data.json"]?["links"]?.list?.isEmpty == true)
    }

    @Test("User data is written as the bytes that the user sent")
    func userData() throws {
        var guest = Sample.guest()
        guest.instance.userData = Base64.encode(Array("#!/bin/sh\n".utf8))
        let file = try ConfigDriveContent(guest, adminPassword: nil, seed: []).files.first { $0.name == "user_data" }
        #expect(file?.bytes == Array("#!/bin/sh\n".utf8))
        guest.instance.userData = "not base64!"
        let error = #expect(throws: Failure.self) { try ConfigDriveContent(guest, adminPassword: nil, seed: []) }
        #expect(error?.kind == .invalidParameters)
    }

    @Test("The image has the label config-2 and the files in both versions; nothing else stays behind")
    func image() async throws {
        let folder = try TemporaryFolder()
        let drive = try #require(ConfigDrive(files: BlockingExecutor(name: "test", threads: 1)))
        let content = try ConfigDriveContent(Sample.guest(), adminPassword: "s3cret", seed: [1])
        for _ in 0..<2 { try await drive.write(content, to: folder.path + "/disk.config") }
        #expect(try folder.names == ["disk.config"])
        #expect(try mode(folder.path + "/disk.config") == 0o600)
        let isoinfo = try #require(find(program: "isoinfo"))
        let label = try await run(Command(isoinfo, ["-d", "-i", folder.path + "/disk.config"], timeout: .seconds(20)))
        #expect(label.outputText.contains("Volume id: config-2"))
        for version in ["latest", "2018-08-27"] {
            let file = try await run(
                Command(
                    isoinfo,
                    ["-J", "-i", folder.path + "/disk.config", "-x", "/openstack/\(version)/meta_data.json"],
                    timeout: .seconds(20)))
            #expect(file.standardOutput == content.files.first { $0.name == "meta_data.json" }?.bytes)
        }
    }
}
