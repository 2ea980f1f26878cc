internal import Crypto
public import Model

/// What guests are told by the operator's configuration.
public struct MetadataSettings: Sendable, Hashable {
    /// Appended to hostnames; empty for none.
    public var domain: String
    /// The operator's own data for every guest, a JSON object.
    public var vendorData: [UInt8]

    public init(domain: String = "", vendorData: [UInt8] = Array("{}".utf8)) {
        (self.domain, self.vendorData) = (domain, vendorData)
    }
}

/// Whom the documents are about.
public struct MetadataSubject: Sendable, Hashable {
    public var instance: Instance
    /// The image's `hw_disk_bus`; `nil` is virtio.
    public var diskBus: String?
    public var interfaces: [NetworkInterface]
    /// The host's processors that are this guest's alone.
    public var dedicatedCPUs: [Int]
    /// In a config drive only.
    public var adminPassword: String?
    /// Likewise.
    public var files: [InjectedFile]

    public init(
        instance: Instance, diskBus: String?, interfaces: [NetworkInterface], dedicatedCPUs: [Int] = [],
        adminPassword: String? = nil, files: [InjectedFile] = []
    ) {
        (self.instance, self.diskBus, self.interfaces) = (instance, diskBus, interfaces)
        (self.dedicatedCPUs, self.adminPassword, self.files) = (dedicatedCPUs, adminPassword, files)
    }
}

/// The documents of a config drive and of the metadata service, as cloud-init and its kin read them: every version of the metadata that Nova has had,
/// each with the members that it had, and the layout of EC2.
public struct MetadataContent: Sendable {
    public struct File: Sendable {
        /// From the drive's root.
        public let path: String
        public let bytes: [UInt8]
    }

    /// Of Nova's metadata; a newer one has all that the older ones have.
    public static let versions = [
        "2012-08-10", "2013-04-04", "2013-10-17", "2015-10-15", "2016-06-30", "2016-10-06", "2017-02-22", "2018-08-27",
        "2020-10-14", "2025-04-04", "latest",
    ]
    /// The older ones of EC2 stay away, as Nova's option for it says.
    public static let amazonVersions = ["2009-04-04", "latest"]

    public let files: [File]

    /// - Parameters:
    ///   - seed: random bytes for the guest's generator.
    /// - Throws: `.invalidParameters` for user data or a file that is not base64.
    public init(
        _ subject: MetadataSubject, seed: [UInt8], settings: MetadataSettings = MetadataSettings()
    ) throws(Failure) {
        let instance = subject.instance
        var userData: [UInt8]?
        if let text = instance.userData, !text.isEmpty {
            guard let bytes = Base64.decode(text) else {
                throw Failure(.invalidParameters, "the user data of instance \(instance.id) is not base64")
            }
            userData = bytes
        }
        var files: [File] = []
        for (index, file) in subject.files.enumerated() {
            guard let bytes = Base64.decode(file.contents) else {
                throw Failure(.invalidParameters, "the file \(file.path) for instance \(instance.id) is not base64")
            }
            files.append(File(path: "openstack" + Self.contentPath(index), bytes: bytes))
        }
        let metadata = GuestMetadata(subject, seed: seed, domain: settings.domain)
        for version in Self.versions {
            func add(_ name: String, since first: String = "", _ bytes: [UInt8]) {
                // "latest" stands behind every date.
                if version >= first { files.append(File(path: "openstack/\(version)/\(name)", bytes: bytes)) }
            }
            add("meta_data.json", metadata.json(version))
            if let userData { add("user_data", userData) }
            add("vendor_data.json", since: "2013-10-17", settings.vendorData)
            add("network_data.json", since: "2015-10-15", Self.network(subject))
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

    private static func network(_ subject: MetadataSubject) -> [UInt8] {
        var writer = JSONWriter(capacity: 512)
        writer.object { json in
            json.array("links") { links in
                for (index, interface) in subject.interfaces.enumerated() {
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
                for (index, interface) in subject.interfaces.enumerated() {
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
