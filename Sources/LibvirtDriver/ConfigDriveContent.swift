internal import Compute
internal import Crypto
internal import Model

/// What of the configuration goes into config drives.
struct ConfigDriveSettings: Sendable, Hashable {
    /// Appended to hostnames; empty for none.
    var domain = ""
    /// The operator's own data for every guest, a JSON object.
    var vendorData = Array("{}".utf8)
}

/// The files of a config drive, as cloud-init and its kin read them: every version of the metadata that Nova has had,
/// each with the members that it had, and the layout of EC2.
struct ConfigDriveContent {
    struct File {
        /// From the drive's root.
        let path: String
        let bytes: [UInt8]
    }

    /// Of Nova's metadata; a newer one has all that the older ones have.
    static let versions = [
        "2012-08-10", "2013-04-04", "2013-10-17", "2015-10-15", "2016-06-30", "2016-10-06", "2017-02-22", "2018-08-27",
        "2020-10-14", "2025-04-04", "latest",
    ]
    /// The older ones of EC2 stay away, as Nova's option for it says.
    static let amazonVersions = ["2009-04-04", "latest"]

    let files: [File]

    /// - Parameters:
    ///   - secrets: written here and nowhere else.
    ///   - seed: random bytes for the guest's generator.
    init(
        _ guest: GuestSpecification, secrets: ConfigDriveSecrets, seed: [UInt8],
        settings: ConfigDriveSettings = ConfigDriveSettings()
    ) throws(Failure) {
        let instance = guest.instance
        var userData: [UInt8]?
        if let text = instance.userData, !text.isEmpty {
            guard let bytes = Base64.decode(text) else {
                throw Failure(.invalidParameters, "the user data of instance \(instance.id) is not base64")
            }
            userData = bytes
        }
        var files: [File] = []
        for (index, file) in secrets.files.enumerated() {
            guard let bytes = Base64.decode(file.contents) else {
                throw Failure(.invalidParameters, "the file \(file.path) for instance \(instance.id) is not base64")
            }
            files.append(File(path: "openstack" + Self.contentPath(index), bytes: bytes))
        }
        let metadata = GuestMetadata(guest, secrets: secrets, seed: seed, domain: settings.domain)
        for version in Self.versions {
            func add(_ name: String, since first: String = "", _ bytes: [UInt8]) {
                // "latest" stands behind every date.
                if version >= first { files.append(File(path: "openstack/\(version)/\(name)", bytes: bytes)) }
            }
            add("meta_data.json", metadata.json(version))
            if let userData { add("user_data", userData) }
            add("vendor_data.json", since: "2013-10-17", settings.vendorData)
            add("network_data.json", since: "2015-10-15", Self.network(guest))
            add("vendor_data2.json", since: "2016-10-06", Self.namedVendorData(settings.vendorData))
        }
        for version in Self.amazonVersions {
            files.append(File(path: "ec2/\(version)/meta-data.json", bytes: metadata.amazonJSON()))
            if let userData { files.append(File(path: "ec2/\(version)/user-data", bytes: userData)) }
        }
        self.files = files
    }

    /// Where the content of an injected file is, from the folder `openstack`.
    static func contentPath(_ index: Int) -> String {
        let digits = String(index)
        return "/content/" + String(repeating: "0", count: max(0, 4 - digits.count)) + digits
    }

    /// The operator's data under the name that is not one of a service.
    private static func namedVendorData(_ data: [UInt8]) -> [UInt8] {
        var writer = JSONWriter()
        writer.object { json in
            json.key("static")
            json.raw(data)
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
