internal import Crypto
internal import Model

/// What a guest is told of itself, in Nova's form and in that of EC2.
struct GuestMetadata {
    private let subject: MetadataSubject
    private let seed: [UInt8]
    private let hostname: String

    private var instance: Instance { subject.instance }
    private var zone: String { instance.availabilityZone ?? "nova" }

    init(_ subject: MetadataSubject, seed: [UInt8], domain: String) {
        (self.subject, self.seed) = (subject, seed)
        hostname = domain.isEmpty ? subject.instance.hostname : subject.instance.hostname + "." + domain
    }

    /// `meta_data.json` as of a version.
    func json(_ version: String) -> [UInt8] {
        var writer = JSONWriter(capacity: 2_048)
        writer.object { json in
            json.member("uuid", instance.id.rawValue)
            json.member("name", instance.name)
            json.member("hostname", hostname)
            json.member("launch_index", instance.launchIndex)
            json.member("availability_zone", zone)
            json.object("meta") { meta in
                for (key, value) in instance.metadata.sorted(by: { $0.key < $1.key }) { meta.member(key, value) }
            }
            writeKeys(&json)
            if !subject.files.isEmpty {
                json.array("files") { files in
                    for (index, file) in subject.files.enumerated() {
                        files.object { entry in
                            entry.member("path", file.path)
                            entry.member("content_path", MetadataContent.contentPath(index))
                        }
                    }
                }
            }
            if let password = subject.adminPassword { json.member("admin_pass", password) }
            if version >= "2013-04-04" { json.member("random_seed", Base64.encode(seed)) }
            if version >= "2015-10-15" { json.member("project_id", instance.projectID.rawValue) }
            if version >= "2016-06-30" { writeDevices(&json) }
            if version >= "2020-10-14" {
                json.array("dedicated_cpus") { list in
                    for cpu in subject.dedicatedCPUs { list.value(.integer(Int64(cpu))) }
                }
            }
        }
        return writer.finish()
    }

    private func writeKeys(_ json: inout JSONWriter) {
        guard let name = instance.keyName, let key = instance.publicKey else { return }
        json.object("public_keys") { $0.member(name, key) }
        json.array("keys") { keys in
            keys.object { entry in
                entry.member("name", name)
                entry.member("type", "ssh")
                entry.member("data", key)
            }
        }
    }

    /// Devices that the user has tagged.
    private func writeDevices(_ json: inout JSONWriter) {
        json.array("devices") { _ in }
    }

    /// `meta-data.json` in the layout of EC2.
    func amazonJSON() -> [UInt8] {
        let address = subject.interfaces.lazy.compactMap(\.ipv4Address).first ?? ""
        let root = devicePrefix + "a"
        var writer = JSONWriter(capacity: 1_024)
        writer.object { json in
            json.member("ami-id", "ami-" + instance.imageID.rawValue.prefix(8))
            json.member("ami-launch-index", instance.launchIndex)
            json.member("ami-manifest-path", "FIXME")
            json.object("block-device-mapping") { devices in
                devices.member("ami", root)
                devices.member("root", "/dev/" + root)
                var letter = UInt8(ascii: "b")
                func next() -> String {
                    defer { letter += 1 }
                    return "/dev/" + devicePrefix + String(UnicodeScalar(letter))
                }
                let ephemerals = instance.localDisks?.ephemerals.count ?? 0
                let count = ephemerals == 0 && instance.flavor.ephemeralGiB > 0 ? 1 : ephemerals
                for index in 0..<count { devices.member("ephemeral\(index)", next()) }
                if instance.localDisks?.swapMiB ?? instance.flavor.swapMiB > 0 { devices.member("swap", next()) }
            }
            json.member("hostname", hostname)
            json.member("instance-action", "none")
            json.member("instance-id", amazonID)
            json.member("instance-type", instance.flavor.name)
            json.member("local-hostname", hostname)
            json.member("local-ipv4", address)
            json.object("placement") { $0.member("availability-zone", zone) }
            json.member("public-hostname", hostname)
            // Addresses that are translated outside are a network service's.
            json.member("public-ipv4", "")
            if let key = instance.publicKey {
                json.object("public-keys") { keys in keys.object("0") { $0.member("openssh-key", key) } }
            }
            json.member("reservation-id", instance.reservationID)
            json.array("security-groups") { _ in }
        }
        return writer.finish()
    }

    private var amazonID: String {
        let digits = String(instance.number, radix: 16)
        return "i-" + String(repeating: "0", count: max(0, 8 - digits.count)) + digits
    }

    private var devicePrefix: String {
        switch subject.diskBus {
        case nil, "virtio": "vd"
        case "ide": "hd"
        default: "sd"
        }
    }
}
