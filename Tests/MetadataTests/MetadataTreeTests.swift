import Crypto
import Metadata
import Model
import Testing

@Suite("What guests are told at which path")
struct MetadataTreeTests {
    private func tree(userData: String? = "hello", key: Bool = true) throws -> MetadataTree {
        let flavor = Flavor(id: FlavorID("1"), name: "m1.tiny", vcpus: 1, memoryMiB: 64, rootGiB: 1, swapMiB: 64)
        var instance = Instance(
            id: InstanceID("8d3d17a5-8b4f-4a1e-9d0d-8a3d3f0a0b11"), number: 255, projectID: ProjectID("p"),
            userID: UserID("u"), name: "web", hostname: "web", flavor: flavor, imageID: ImageID("0123456789"),
            keyName: key ? "laptop" : nil, publicKey: key ? "ssh-ed25519 AAAA me" : nil, metadata: ["role": "front"],
            reservationID: "r-1", createdAt: Timestamp(microseconds: 0))
        instance.userData = userData.map { Base64.encode(Array($0.utf8)) }
        let content = try MetadataContent(
            MetadataSubject(
                instance: instance, diskBus: nil,
                interfaces: [
                    NetworkInterface(network: "n", macAddress: "fa:16:3e:00:00:01", ipv4Address: "192.168.122.7")
                ], dedicatedCPUs: [2, 3]), seed: [1, 2, 3], settings: MetadataSettings(domain: "novalocal"))
        return try MetadataTree(content, keyName: instance.keyName)
    }

    private func text(_ tree: MetadataTree, _ path: String) -> String? {
        tree.answer(at: path).map { String(decoding: $0.bytes, as: UTF8.self) }
    }

    @Test(
        "Values and lists, with and without a slash at the end",
        arguments: [
            ("/latest/meta-data/instance-id", "i-000000ff"), ("/latest/meta-data/hostname", "web.novalocal"),
            ("/2009-04-04/meta-data/local-ipv4", "192.168.122.7"), ("/1.0/meta-data/public-keys", "0=laptop"),
            ("/latest/meta-data/public-keys/0/", "openssh-key"),
            ("/latest/meta-data/public-keys/0/openssh-key", "ssh-ed25519 AAAA me"),
            ("/latest/meta-data/placement/availability-zone", "nova"),
            ("/latest/meta-data/placement/", "availability-zone"),
            ("/latest/meta-data/block-device-mapping", "ami\nroot\nswap"), ("/latest/user-data", "hello"),
            ("/latest", "meta-data/\nuser-data"), ("/latest/", "meta-data/\nuser-data"),
            ("/openstack/2012-08-10", "meta_data.json\nuser_data"), ("/openstack/latest/user_data", "hello"),
            ("//openstack///latest//user_data/", "hello"),
        ])
    func answers(path: String, expected: String) throws {
        #expect(text(try tree(), path) == expected)
    }

    @Test("The versions are listed, and the newest document has everything that the service may say")
    func documents() throws {
        let tree = try tree()
        #expect(text(tree, "/openstack")?.split(separator: "\n").map(String.init) == MetadataContent.versions)
        #expect(text(tree, "/")?.hasSuffix("2009-04-04\nlatest") == true)
        let answer = try #require(tree.answer(at: "/openstack/latest/meta_data.json"))
        #expect(answer.contentType == "application/json")
        let json = try JSON(parsing: answer.bytes)
        #expect(json["uuid"] == "8d3d17a5-8b4f-4a1e-9d0d-8a3d3f0a0b11" && json["meta"]?["role"] == "front")
        #expect(json["dedicated_cpus"] == [2, 3] && json["admin_pass"] == nil)
        #expect(text(tree, "/latest/meta-data")?.contains("block-device-mapping/") == true)
    }

    @Test(
        "Nothing is anywhere else",
        arguments: [
            "/openstack/1999-01-01", "/openstack/latest/../latest", "/openstack/latest/nothing",
            "/openstack/content/0000",
            "/latest/meta-data/instance-id/x", "/latest/nothing", "/other", "/latest/meta-data/%2e%2e",
            "/openstack/latest/meta_data.json/x", "/" + String(repeating: "a", count: 10_000),
        ])
    func nothing(path: String) throws { #expect(try tree().answer(at: path) == nil) }

    @Test("Without user data and key there are none")
    func without() throws {
        let tree = try tree(userData: nil, key: false)
        #expect(text(tree, "/latest") == "meta-data/" && text(tree, "/latest/user-data") == nil)
        #expect(text(tree, "/openstack/latest/user_data") == nil && text(tree, "/latest/meta-data/public-keys") == nil)
    }
}
