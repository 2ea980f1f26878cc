internal import Database
internal import GuestHardware
internal import HTTP
internal import Model

/// The named values that a flavor carries: `os-extra_specs`.
extension ComputeRoutes {
    private static let maximumSpecs = 256

    mutating func addFlavorSpecs() {
        let parts = parts
        let path = "flavors/{id}/os-extra_specs"
        add(.get, path, rule: "os-flavor-extra-specs:index") { call in
            specsAnswer(try await findFlavor(call, parts).extraSpecs)
        }
        add(.post, path, rule: "os-flavor-extra-specs:create") { call in
            let flavor = try await findFlavor(call, parts)
            var body = try BodyFields(try call.body(), as: "body")
            guard let value = body.take("extra_specs") else {
                throw APIError.badRequest("Invalid input: 'extra_specs' is a required property.")
            }
            try body.finish()
            let added = try readSpecs(value, call)
            _ = try await parts.database.flavors.update(flavor.id) { flavor in
                flavor.extraSpecs.merge(added) { $1 }
                guard flavor.extraSpecs.count <= Self.maximumSpecs else {
                    throw APIError.badRequest("A flavor has at most \(Self.maximumSpecs) extra specs.")
                }
            }
            return specsAnswer(added)
        }
        add(.get, path + "/{key}", rule: "os-flavor-extra-specs:show") { call in
            let key = call.parameter("key")
            guard let value = try await findFlavor(call, parts).extraSpecs[key] else { throw missingSpec(call) }
            return jsonAnswer { $0.member(key, value) }
        }
        add(.put, path + "/{key}", rule: "os-flavor-extra-specs:update") { call in
            let flavor = try await findFlavor(call, parts)
            let key = call.parameter("key")
            let specs = try readSpecs(try call.body(), call)
            guard specs.count == 1, let value = specs[key] else {
                throw APIError.badRequest(
                    specs.count == 1 ? "Request body and URI mismatch" : "Request body contains too many items")
            }
            _ = try await parts.database.flavors.update(flavor.id) { flavor in
                guard flavor.extraSpecs[key] != nil || flavor.extraSpecs.count < Self.maximumSpecs else {
                    throw APIError.badRequest("A flavor has at most \(Self.maximumSpecs) extra specs.")
                }
                flavor.extraSpecs[key] = value
            }
            return jsonAnswer { $0.member(key, value) }
        }
        add(.delete, path + "/{key}", rule: "os-flavor-extra-specs:delete") { call in
            let flavor = try await findFlavor(call, parts)
            let key = call.parameter("key")
            let missing = missingSpec(call)
            _ = try await parts.database.flavors.update(flavor.id) { flavor in
                guard flavor.extraSpecs.removeValue(forKey: key) != nil else { throw missing }
            }
            return HTTPResponse(200)
        }
    }
}

private func missingSpec(_ call: ComputeCall) -> APIError {
    .notFound("Flavor \(call.parameter("id")) has no extra specs with key \(call.parameter("key")).")
}

private func specsAnswer(_ specs: [String: String]) -> HTTPResponse {
    jsonAnswer { writer in
        writer.object("extra_specs") { writer in
            for (key, value) in specs.sorted(by: { $0.key < $1.key }) { writer.member(key, value) }
        }
    }
}

/// Names of letters, digits, `-_:. ` and values of up to 255 characters; numbers are taken as texts.
private func readSpecs(_ value: JSON, _ call: ComputeCall) throws(APIError) -> [String: String] {
    guard let members = value.members else {
        throw .badRequest("Invalid input for extra_specs: an object is wanted, not \(value.typeName).")
    }
    var specs: [String: String] = [:]
    for (key, value) in members {
        let isKey = (1...255).contains(key.utf8.count) && key.utf8.allSatisfy(isKeyByte)
        guard isKey else { throw .badRequest("Invalid input for extra_specs: '\(key.prefix(64))' cannot be a name.") }
        let text: String? =
            switch value {
            case .string(let text): text
            case .integer(let number): String(number)
            case .number(let number): String(number)
            default: nil
            }
        guard let text, text.unicodeScalars.count <= 255, !text.utf8.contains(0) else {
            throw .badRequest("Invalid input for extra_specs: the value of \(key) is a text of up to 255 characters.")
        }
        do throws(HardwareError) {
            try GuestHardware.check(flavorSpec: key, value: text)
        } catch {
            throw .badRequest("Invalid input for extra_specs: \(error).")
        }
        if call.isAtLeast(86) { try checkMeaning(key, text) }
        specs[key] = text
    }
    return specs
}

/// From 2.86 on names of known namespaces are known, and the scheduler's words are among those that it reads. Other
/// namespaces are whoever's use them.
private func checkMeaning(_ key: String, _ text: String) throws(APIError) {
    guard !GuestHardware.isUnknown(flavorSpec: key) else {
        throw .badRequest("Validation failed; extra spec '\(key)' does not appear to be a valid extra spec.")
    }
    let (space, name) = (key.prefix { $0 != ":" }, key.drop { $0 != ":" }.dropFirst())
    switch true {
    case space.hasPrefix("trait") && !name.isEmpty:
        guard ["required", "forbidden"].contains(text), isTrait(name) else {
            throw .badRequest(
                "Validation failed; failed to validate extra spec '\(key)': a trait is required or forbidden.")
        }
    case key == "group_policy":
        guard ["none", "isolate"].contains(text) else {
            throw .badRequest("Validation failed; failed to validate extra spec '\(key)': none or isolate is wanted.")
        }
    case key == "hide_hypervisor_id":
        guard parseFlag(text) != nil else {
            throw .badRequest("Validation failed; failed to validate extra spec '\(key)': true or false is wanted.")
        }
    default: break
    }
}

private func isTrait(_ name: Substring) -> Bool {
    name.utf8.count <= 255
        && name.utf8.allSatisfy { (0x41...0x5A).contains($0) || (0x30...0x39).contains($0) || $0 == UInt8(ascii: "_") }
}

private func isKeyByte(_ byte: UInt8) -> Bool {
    switch byte {
    case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
    default: "-_:. ".utf8.contains(byte)
    }
}
