import Compute
import Crypto
import Foundation
import Metadata
import Model
import Processes
import Telemetry
import Testing

@testable import LibvirtDriver

@Suite("Config drive")
struct ConfigDriveTests {
    private func files(
        _ guest: GuestSpecification = Sample.guest(), secrets: ConfigDriveSecrets = .init(),
        settings: MetadataSettings = .init()
    ) throws -> [String: [UInt8]] {
        let content = try MetadataContent(MetadataSubject(guest, secrets), seed: [1, 2, 3], settings: settings)
        return Dictionary(uniqueKeysWithValues: content.files.map { ($0.path, $0.bytes) })
    }

    private func json(_ name: String, _ files: [String: [UInt8]]) throws -> JSON {
        try JSON(parsing: try #require(files[name]))
    }

    private static let latest: [String: JSON] = [
        "uuid": .string(Sample.id.rawValue), "name": "web", "hostname": "web.novalocal", "launch_index": 0,
        "availability_zone": "nova", "project_id": "p1", "meta": ["role": "front", "colour": "blue"],
        "public_keys": ["laptop": "ssh-ed25519 AAAA me"],
        "keys": [["name": "laptop", "type": "ssh", "data": "ssh-ed25519 AAAA me"]], "random_seed": "AQID",
        "admin_pass": "s3cret", "files": [["path": "/etc/motd", "content_path": "/content/0000"]], "devices": [],
        "dedicated_cpus": [],
    ]

    @Test("meta_data.json says who the guest is, in each version what that version had")
    func metadata() throws {
        let secrets = ConfigDriveSecrets(
            adminPassword: "s3cret", files: [InjectedFile(path: "/etc/motd", contents: Base64.encode([7, 8]))])
        let files = try files(secrets: secrets, settings: MetadataSettings(domain: "novalocal"))
        let later: [(String, String)] = [
            ("random_seed", "2013-04-04"), ("project_id", "2015-10-15"), ("devices", "2016-06-30"),
            ("dedicated_cpus", "2020-10-14"),
        ]
        for version in MetadataContent.versions {
            let expected = Self.latest.filter { member in
                !later.contains { $0.0 == member.key && version != "latest" && version < $0.1 }
            }
            #expect(try json("openstack/\(version)/meta_data.json", files) == .object(expected), "\(version)")
        }
        #expect(files["openstack/content/0000"] == [7, 8])
    }

    @Test("Each version has the files that it had, and the list of versions is Nova's")
    func layout() throws {
        var guest = Sample.guest()
        guest.instance.userData = Base64.encode([1])
        let files = try files(guest)
        func names(_ folder: String) -> [String] {
            files.keys.filter { $0.hasPrefix(folder + "/") }.map { String($0.dropFirst(folder.count + 1)) }.sorted()
        }
        #expect(names("openstack/2012-08-10") == ["meta_data.json", "user_data"])
        #expect(names("openstack/2013-10-17") == ["meta_data.json", "user_data", "vendor_data.json"])
        #expect(
            names("openstack/2015-10-15") == ["meta_data.json", "network_data.json", "user_data", "vendor_data.json"])
        let all = ["meta_data.json", "network_data.json", "user_data", "vendor_data.json", "vendor_data2.json"]
        for version in ["2016-10-06", "2017-02-22", "2018-08-27", "2020-10-14", "2025-04-04", "latest"] {
            #expect(names("openstack/" + version) == all)
        }
        #expect(names("ec2/latest") == ["meta-data.json", "user-data"])
        #expect(names("ec2/2009-04-04") == ["meta-data.json", "user-data"])
    }

    @Test("Without key pair, password and files their members are missing")
    func absent() throws {
        var guest = Sample.guest()
        (guest.instance.keyName, guest.instance.publicKey) = (nil, nil)
        let metadata = try json("openstack/latest/meta_data.json", files(guest))
        for name in ["keys", "public_keys", "admin_pass", "files"] { #expect(metadata[name] == nil) }
        #expect(metadata["hostname"] == "web")
        #expect(try json("ec2/latest/meta-data.json", files(guest))["public-keys"] == nil)
    }

    @Test("The layout of EC2 says the same in its words")
    func amazon() throws {
        var guest = Sample.guest(Sample.instance(flavor: Sample.flavor(ephemeral: 1, swap: 64)))
        guest.instance.imageID = ImageID("9b2c1d3e-0000-4000-8000-000000000000")
        let metadata = try json(
            "ec2/latest/meta-data.json", files(guest, settings: MetadataSettings(domain: "example.org")))
        #expect(
            metadata
                == [
                    "ami-id": "ami-9b2c1d3e", "ami-launch-index": 0, "ami-manifest-path": "FIXME",
                    "block-device-mapping": [
                        "ami": "vda", "root": "/dev/vda", "ephemeral0": "/dev/vdb", "swap": "/dev/vdc",
                    ],
                    "hostname": "web.example.org", "instance-action": "none", "instance-id": "i-0000002a",
                    "instance-type": "m1.nano", "local-hostname": "web.example.org", "local-ipv4": "192.168.122.7",
                    "placement": ["availability-zone": "nova"], "public-hostname": "web.example.org", "public-ipv4": "",
                    "public-keys": ["0": ["openssh-key": "ssh-ed25519 AAAA me"]], "reservation-id": "r-1",
                    "security-groups": [],
                ])
    }

    @Test("The operator's data is vendor_data.json, and static in vendor_data2.json")
    func vendorData() throws {
        let none = try files()
        #expect(try json("openstack/latest/vendor_data.json", none) == [:])
        #expect(try json("openstack/latest/vendor_data2.json", none) == ["static": [:]])
        let given = try files(settings: MetadataSettings(vendorData: Array(#"{"motd":"hi"}"#.utf8)))
        #expect(try json("openstack/latest/vendor_data.json", given) == ["motd": "hi"])
        #expect(try json("openstack/latest/vendor_data2.json", given) == ["static": ["motd": "hi"]])
    }

    @Test("network_data.json names each NIC and how it gets its address")
    func network() throws {
        let network = try json("openstack/latest/network_data.json", files())
        #expect(network["links"]?.list?.first?["ethernet_mac_address"]?.text == "fa:16:3e:01:02:03")
        let first = try #require(network["networks"]?.list?.first)
        #expect(first["type"]?.text == "ipv4_dhcp")
        #expect(first["link"] == network["links"]?.list?.first?["id"])
        #expect(first["ip_address"]?.text == "192.168.122.7")
        let without = try json("openstack/latest/network_data.json", files(Sample.guest(interfaces: [])))
        #expect(without["links"]?.list?.isEmpty == true)
    }

    @Test("User data and injected files are written as the bytes that the user sent; what is no base64 is refused")
    func userData() throws {
        var guest = Sample.guest()
        guest.instance.userData = Base64.encode(Array("#!/bin/sh\n".utf8))
        #expect(try files(guest)["openstack/latest/user_data"] == Array("#!/bin/sh\n".utf8))
        #expect(try files(guest)["ec2/latest/user-data"] == Array("#!/bin/sh\n".utf8))
        guest.instance.userData = "not base64!"
        let error = #expect(throws: Failure.self) { try files(guest) }
        #expect(error?.kind == .invalidParameters)
        let secrets = ConfigDriveSecrets(files: [InjectedFile(path: "/x", contents: "!")])
        let other = #expect(throws: Failure.self) { try files(secrets: secrets) }
        #expect(other?.kind == .invalidParameters && other?.message.contains("/x") == true)
    }

    @Test("The image has the label config-2 and every file, equal ones once; nothing else stays behind")
    func image() async throws {
        let folder = try TemporaryFolder()
        let drive = try #require(ConfigDrive(files: BlockingExecutor(name: "test", threads: 1)))
        var guest = Sample.guest()
        guest.instance.userData = Base64.encode([UInt8](repeating: 65, count: 40_000))
        let secrets = ConfigDriveSecrets(
            adminPassword: "s3cret", files: [InjectedFile(path: "/x", contents: Base64.encode([1, 2]))])
        let content = try MetadataContent(MetadataSubject(guest, secrets), seed: [1])
        for _ in 0..<2 { try await drive.write(content, to: folder.path + "/disk.config") }
        #expect(try folder.names == ["disk.config"])
        #expect(try mode(folder.path + "/disk.config") == 0o600)
        // Each of 13 places with its own user data would take half a megabyte more.
        #expect(try #require(Files.size(folder.path + "/disk.config")) < 700_000)
        let isoinfo = try #require(find(program: "isoinfo"))
        let label = try await run(Command(isoinfo, ["-d", "-i", folder.path + "/disk.config"], timeout: .seconds(20)))
        #expect(label.outputText.contains("Volume id: config-2"))
        for file in content.files {
            let read = try await run(
                Command(
                    isoinfo, ["-J", "-i", folder.path + "/disk.config", "-x", "/" + file.path], timeout: .seconds(20)))
            #expect(read.standardOutput == file.bytes, "\(file.path)")
        }
    }
}
