internal import Compute
internal import Crypto
internal import Model

/// The files of a config drive, as cloud-init and its kin read them; one version and `latest`.
struct ConfigDriveContent {
    struct File {
        /// Under `openstack/VERSION/`.
        let name: String
        let bytes: [UInt8]
    }

    static let versions = ["2018-08-27", "latest"]

    let files: [File]

    /// - Parameters:
    ///   - adminPassword: written as `admin_pass`, and nowhere else.
    ///   - seed: random bytes for the guest's generator.
    init(_ guest: GuestSpecification, adminPassword: String?, seed: [UInt8]) throws(Failure) {
        var files = [
            File(name: "meta_data.json", bytes: Self.metadata(guest, adminPassword, seed)),
            File(name: "network_data.json", bytes: Self.network(guest)),
            File(name: "vendor_data.json", bytes: Array("{}".utf8)),
        ]
        if let text = guest.instance.userData, !text.isEmpty {
            guard let bytes = Base64.decode(text) else {
                throw Failure(.invalidParameters, "the user data of instance \(guest.instance.id) is not base64")
            }
            files.append(File(name: "user_data", bytes: bytes))
        }
        self.files = files
    }

    private static func metadata(_ guest: GuestSpecification, _ adminPassword: String?, _ seed: [UInt8]) -> [UInt8] {
        let instance = guest.instance
        var writer = JSONWriter(capacity: 2_048)
        writer.object { json in
            json.member("uuid", instance.id.rawValue)
            json.member("name", instance.name)
            json.member("hostname", instance.hostname)
            json.key("launch_index")
            json.integer(instance.launchIndex)
            json.member("availability_zone", instance.availabilityZone ?? "nova")
            json.member("project_id", instance.projectID.rawValue)
            json.object("meta") { meta in
                for (key, value) in instance.metadata.sorted(by: { $0.key < $1.key }) { meta.member(key, value) }
            }
            if let name = instance.keyName, let key = instance.publicKey {
                json.object("public_keys") { $0.member(name, key) }
                json.array("keys") { keys in
                    keys.object { entry in
                        entry.member("name", name)
                        entry.member("type", "ssh")
                        entry.member("data", key)
                    }
                }
            }
            json.member("random_seed", Base64.encode(seed))
            if let adminPassword { json.member("admin_pass", adminPassword) }
            json.array("devices") { _ in }
        }
        return writer.finish()
    }

    private static func network(_ guest: GuestSpecification) -> [UInt8] {
        var writer = JSONWriter(capacity: 512)
        writer.object { json in
            json.array("links") { links in
                for (index, interface) in guest.interfaces.enumerated() {
                    links.object { link in
                        link.member("id", "nic\(index)")
                        link.member("type", "bridge")
                        link.member("ethernet_mac_address", interface.macAddress)
                        link.key("mtu")
                        link.null()
                    }
                }
            }
            json.array("networks") { networks in
                for (index, interface) in guest.interfaces.enumerated() {
                    networks.object { network in
                        network.member("id", "network\(index)")
                        network.member("type", "ipv4_dhcp")
                        network.member("link", "nic\(index)")
                        network.member("network_id", interface.network)
                        // What DHCP will say; tools that configure by DHCP ignore it.
                        if let address = interface.ipv4Address { network.member("ip_address", address) }
                    }
                }
            }
            json.array("services") { _ in }
        }
        return writer.finish()
    }
}

extension JSONWriter {
    fileprivate mutating func member(_ key: String, _ value: String) {
        self.key(key)
        string(value)
    }
}
