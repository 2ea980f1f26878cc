internal import Crypto
internal import HTTP
internal import Model

/// The body of `POST /servers`, read and checked as far as it can be without asking anybody.
struct ServerRequest: Sendable {
    static let maximumCount = 1_000
    private static let maximumTags = 50

    var name = ""
    var image: String?
    var flavor = ""
    var adminPassword: String?
    var keyName: String?
    var metadata: [String: String] = [:]
    var tags: Set<String> = []
    var userData: String?
    var files: [InjectedFile] = []
    var isConfigDriveRequested = false
    var availabilityZone: String?
    var localDisks: LocalDisks?
    var networks = NetworkRequest.auto
    var counts = 1...1
    var wantsReservation = false
    var accessIPv4: String?
    var accessIPv6: String?
    var description: String?
    /// What the guest is to call itself; `nil`: made of the server's name.
    var hostname: String?
    /// The host, and the hypervisor on it, where the server is to be, if the filters let it.
    var destination: RequestedDestination?
    var hints: [String: [String]] = [:]
    /// The server group that it is to be in.
    var group: String?

    init(_ call: ComputeCall, _ settings: APISettings) throws(APIError) {
        let hintNames: Set<String> = ["os:scheduler_hints", "OS-SCH-HNT:scheduler_hints"]
        var (fields, others) = try BodyFields.body(call.request.bytes, member: "server", others: hintNames)
        name = try fields.requiredName("name")
        flavor = try fields.reference("flavorRef")
        try readImage(&fields, settings)
        try readIdentity(&fields, call)
        try readGuest(&fields, call)
        try readNetworks(&fields, call)
        try readCounts(&fields)
        try readSecurityGroups(&fields)
        try fields.finish()
        for name in hintNames.sorted() {
            if let value = others[name] { hints = try SchedulerHints.read(value) }
        }
        group = hints["group"]?.first
    }

    private mutating func readImage(_ fields: inout BodyFields, _ settings: APISettings) throws(APIError) {
        if let value = fields.take("imageRef") {
            guard let text = value.text else { throw .badRequest("Invalid input for field/attribute imageRef.") }
            let id = text.contains("/") ? text.split(separator: "/").last.map(String.init) ?? "" : text
            guard id.isEmpty || isUUID(id) else { throw .badRequest("Invalid imageRef provided.") }
            image = id.isEmpty ? nil : id.lowercased()
        }
        guard fields.take("block_device_mapping") == nil else {
            throw .badRequest("block_device_mapping needs a volume service, and there is none.")
        }
        if let list = try fields.list("block_device_mapping_v2") {
            let devices = try BlockDevices(list, limit: settings.maxLocalBlockDevices)
            guard image == nil || devices.image == nil || image == devices.image else {
                throw BlockDevices.volumeNeeded
            }
            (image, localDisks) = (devices.image ?? image, devices.localDisks)
        }
        guard image != nil else {
            throw .badRequest("Invalid imageRef provided: without a volume service a server boots from an image.")
        }
        _ = try fields.choice("OS-DCF:diskConfig", ["AUTO", "MANUAL"])
    }

    private mutating func readIdentity(_ fields: inout BodyFields, _ call: ComputeCall) throws(APIError) {
        adminPassword = try fields.text("adminPass")
        keyName = try fields.nullableText("key_name") ?? nil
        metadata = try fields.texts("metadata") ?? [:]
        accessIPv4 = try fields.nullableText("accessIPv4", length: 0...15) ?? nil
        accessIPv6 = try fields.nullableText("accessIPv6", length: 0...45) ?? nil
        try checkAddresses(accessIPv4, accessIPv6)
        if call.isAtLeast(19) { description = try fields.nullableText("description") ?? nil }
        hostname = try Self.hostname(&fields, call)
        try Self.refuseCertificates(&fields, call)
        if call.isAtLeast(52), let list = try fields.list("tags") { tags = try Self.tags(list) }
    }

    /// Nobody verifies the signatures of images: whoever asks for it must not believe that they were.
    static func refuseCertificates(_ fields: inout BodyFields, _ call: ComputeCall) throws(APIError) {
        guard call.isAtLeast(63), let value = fields.take("trusted_image_certificates"), !value.isNull else { return }
        throw .notAvailable("Verifying images by certificates")
    }

    /// At most 50 tags of up to 60 characters, without slashes and commas.
    static func tags(_ list: [JSON]) throws(APIError) -> Set<String> {
        guard list.count <= maximumTags else {
            throw .badRequest("Invalid input for tags: a server has at most \(maximumTags).")
        }
        var tags: Set<String> = []
        for value in list {
            guard let text = value.text else { throw .badRequest("Invalid input for tags: a tag is a text.") }
            tags.insert(try tag(text))
        }
        return tags
    }

    static func tag(_ text: String) throws(APIError) -> String {
        guard (1...60).contains(text.unicodeScalars.count), !text.contains("/"), !text.contains(","),
            !text.utf8.contains(0)
        else { throw .badRequest("A tag has 1 to 60 characters, none of them a slash or a comma.") }
        return text
    }

    static let maximumTagCount = maximumTags

    private mutating func readGuest(_ fields: inout BodyFields, _ call: ComputeCall) throws(APIError) {
        userData = try Self.userData(&fields) ?? nil
        if let value = fields.take("config_drive"), !value.isNull, value != .string("") {
            guard let flag = value.boolean ?? value.text.flatMap(parseFlag) else {
                throw .badRequest("Invalid input for field/attribute config_drive: true or false is wanted.")
            }
            isConfigDriveRequested = flag
        }
        availabilityZone = try fields.nullableText("availability_zone") ?? nil
        guard call.isAtLeast(74) else {
            files = try Personality.read(&fields, call)
            return
        }
        let host = try fields.text("host", length: 1...255)
        let node = try fields.text("hypervisor_hostname", length: 1...255)
        if host != nil || node != nil {
            guard availabilityZone?.contains(":") != true else {
                throw .badRequest(
                    "A host is named by availability_zone or by host and hypervisor_hostname, not by both.")
            }
            destination = RequestedDestination(host: host.map { HostName($0) }, node: node, isForced: false)
        }
        files = try Personality.read(&fields, call)
    }

    /// A host name of the caller's own, from 2.90 on; with dots in it from 2.94 on.
    static func hostname(_ fields: inout BodyFields, _ call: ComputeCall) throws(APIError) -> String? {
        guard call.isAtLeast(90), let text = try fields.text("hostname", length: 1...255) else { return nil }
        let mayHaveDomain = call.isAtLeast(94)
        guard isHostname(text, mayHaveDomain: mayHaveDomain) else {
            throw .badRequest(
                "Invalid input for field/attribute hostname: "
                    + (mayHaveDomain ? "a host name of at most 255 characters" : "one label of at most 63 characters")
                    + " is wanted, of letters, digits and dashes.")
        }
        return text
    }

    /// Base64 of at most 65,535 characters; the outer optional says whether the member was there.
    static func userData(_ fields: inout BodyFields) throws(APIError) -> String?? {
        guard let given = try fields.nullableText("user_data", length: 0...65_535) else { return nil }
        guard let compact = given?.filter({ !$0.isNewline }), !compact.isEmpty else { return .some(nil) }
        guard Base64.decode(compact) != nil else {
            throw .badRequest("Invalid input for field/attribute user_data: it must be base64.")
        }
        return compact
    }

    private mutating func readNetworks(_ fields: inout BodyFields, _ call: ComputeCall) throws(APIError) {
        guard let value = fields.take("networks") else {
            guard !call.isAtLeast(37) else {
                throw .badRequest("Invalid input for field/attribute server. 'networks' is a required property.")
            }
            return
        }
        if let word = value.text, call.isAtLeast(37) {
            guard let known = NetworkRequest(rawValue: word) else {
                throw .badRequest("Invalid input for field/attribute networks: auto, none or a list is wanted.")
            }
            networks = known
            return
        }
        guard let list = value.list else {
            throw .badRequest("Invalid input for field/attribute networks: a list is wanted.")
        }
        for entry in list {
            var entry = try BodyFields(entry, as: "networks")
            let id = try entry.nullableText("uuid") ?? nil
            let port = try entry.nullableText("port") ?? nil
            for id in [id, port].compactMap(\.self) where !isUUID(id) {
                throw .badRequest("Bad networks format: network uuid is not in proper format (\(id)).")
            }
            throw .badRequest(
                "Network \(id ?? port ?? "") could not be found: there is no network service. A server gets one "
                    + "interface on the configured network (auto), or none.")
        }
    }

    private mutating func readCounts(_ fields: inout BodyFields) throws(APIError) {
        let least = try fields.integer("min_count", 1...Self.maximumCount)
        let most = try fields.integer("max_count", 1...Self.maximumCount)
        let low = least ?? 1
        guard low <= most ?? low else { throw .badRequest("min_count must be <= max_count") }
        counts = low...(most ?? low)
        wantsReservation = try fields.flag("return_reservation_id") ?? false
    }

    private func readSecurityGroups(_ fields: inout BodyFields) throws(APIError) {
        for value in try fields.list("security_groups") ?? [] {
            var group = try BodyFields(value, as: "security_groups")
            let name = try group.text("name") ?? "default"
            try group.finish()
            guard name == "default" else {
                throw .badRequest("Security group \(name) not found: there is no network service.")
            }
        }
    }
}
