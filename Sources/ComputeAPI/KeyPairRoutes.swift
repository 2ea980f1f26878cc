internal import Crypto
internal import Database
internal import HTTP
internal import Model
internal import Telemetry

/// The users' key pairs.
extension ComputeRoutes {
    mutating func addKeyPairs() {
        let parts = parts
        add(.get, "os-keypairs", rule: nil) { call in
            let user = try user(call, call.query["user_id"], "os-keypairs:index")
            let pairs = try await parts.database.keyPairs.list(of: user)
            try call.requireKnownQuery(["limit", "marker", "user_id"])
            guard call.isAtLeast(35) else { return listAnswer(pairs[...], next: nil, call) }
            let page = try call.page(of: pairs, maximum: parts.settings.maxLimit, id: \.name)
            return listAnswer(page.things, next: page.next, call)
        }
        add(.post, "os-keypairs", rule: nil) { try await createKeyPair($0, parts) }
        add(.get, "os-keypairs/{name}", rule: nil) { call in
            let user = try user(call, call.query["user_id"], "os-keypairs:show")
            let name = call.parameter("name")
            guard let pair = try await parts.database.keyPairs.find(name, of: user) else {
                throw APIError.notFound("Keypair \(name) not found for user \(user)")
            }
            return jsonAnswer(capacity: 1_024) { writer in
                writer.object("keypair") { write(pair, call, to: &$0) }
            }
        }
        add(.delete, "os-keypairs/{name}", rule: nil) { call in
            let user = try user(call, call.query["user_id"], "os-keypairs:delete")
            let name = call.parameter("name")
            do {
                try await parts.database.keyPairs.delete(name, of: user)
            } catch StoreError.notFound {
                throw APIError.notFound("Keypair \(name) not found for user \(user)")
            }
            return HTTPResponse(call.isAtLeast(2) ? 204 : 202)
        }
    }
}

/// Whose key pairs are meant: the caller's, or from 2.10 those of the user that is named, which needs an administrator.
private func user(_ call: ComputeCall, _ named: String?, _ rule: String) throws(APIError) -> UserID {
    guard call.isAtLeast(10), let named, !named.isEmpty else {
        try call.require(rule)
        return call.caller.userID
    }
    try call.require(rule, owner: named == call.caller.userID.rawValue)
    return UserID(named)
}

private func createKeyPair(_ call: ComputeCall, _ parts: ComputeParts) async throws -> HTTPResponse {
    var (fields, _) = try BodyFields.body(call.request.bytes, member: "keypair")
    let name = try fields.requiredText("name")
    // An imported key's name may be the address of whose it is.
    let more = call.isAtLeast(92) ? "@." : ""
    let isFit = name.unicodeScalars.allSatisfy { isNameCharacter($0) || more.unicodeScalars.contains($0) }
    guard isFit, name.first != " ", name.last != " " else {
        throw APIError.badRequest(
            "Keypair data is invalid: Keypair name contains unsafe characters; it has letters, digits, spaces, - and _"
                + (more.isEmpty ? "." : ", @ and ."))
    }
    let type = call.isAtLeast(2) ? try fields.choice("type", ["ssh", "x509"]) ?? "ssh" : "ssh"
    let named = call.isAtLeast(10) ? try fields.text("user_id") : nil
    let publicKey = try fields.nullableText("public_key", length: 0...SSHPublicKey.longest) ?? nil
    try fields.finish()
    guard publicKey != nil || !call.isAtLeast(92) else {
        throw APIError.badRequest(
            "Invalid input for field/attribute keypair. 'public_key' is a required property: from 2.92 on keys are "
                + "imported, and none are made.")
    }
    let user = try user(call, named, "os-keypairs:create")
    guard type == "ssh" else { throw APIError.notAvailable("A key pair of type x509") }
    let made = try await KeyMaterial(importing: publicKey, parts)
    let pair = KeyPair(
        name: name, userID: user, type: type, publicKey: made.publicKey, fingerprint: made.fingerprint,
        createdAt: parts.now())
    do {
        // They are the user's, whose limit is that of the project that the caller speaks for.
        let limits = try await parts.limits(of: call.caller.projectID, user)
        try await parts.database.keyPairs.create(pair, limit: limits.user[.keyPairs])
    } catch let reached as KeyPairLimitReached {
        throw QuotaExceeded(
            shortages: [.init(resource: .keyPairs, requested: 1, used: reached.used, limit: reached.limit)])
    } catch StoreError.exists {
        throw APIError.conflict("Key pair '\(name)' already exists.")
    }
    var answer = jsonAnswer(capacity: 4_096) { writer in
        writer.object("keypair") { writer in
            writeShort(pair, call, to: &writer)
            writer.member("user_id", pair.userID.rawValue)
            if let secret = made.privateKey { writer.member("private_key", secret) }
        }
    }
    answer.status = call.isAtLeast(2) ? 201 : 200
    return answer
}

private struct KeyMaterial {
    let publicKey: String
    let fingerprint: String
    /// Given to the user once, and kept nowhere.
    let privateKey: String?

    init(importing text: String?, _ parts: ComputeParts) async throws {
        if let text {
            publicKey = text
            privateKey = nil
        } else {
            let made = try await parts.executor.run { () throws(CryptoError) in
                try makeSSHKeyPair(comment: "Generated-by-Apus")
            }
            publicKey = made.authorizedKey
            privateKey = made.privatePEM
        }
        do {
            fingerprint = try SSHPublicKey(authorizedKey: publicKey).fingerprintMD5
        } catch {
            throw APIError.badRequest("Keypair data is invalid: failed to generate fingerprint: \(error)")
        }
    }
}

private func isNameCharacter(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar {
    case "a"..."z", "A"..."Z", "0"..."9", " ", "-", "_": true
    default: false
    }
}

private func writeShort(_ pair: KeyPair, _ call: ComputeCall, to writer: inout JSONWriter) {
    writer.member("name", pair.name)
    writer.member("public_key", pair.publicKey)
    writer.member("fingerprint", pair.fingerprint)
    if call.isAtLeast(2) { writer.member("type", pair.type) }
}

private func write(_ pair: KeyPair, _ call: ComputeCall, to writer: inout JSONWriter) {
    writeShort(pair, call, to: &writer)
    writer.member("user_id", pair.userID.rawValue)
    writer.member("id", number(of: pair))
    writer.member("created_at", pair.createdAt.iso8601MicrosecondsWithoutZone)
    writer.member("deleted", false)
    writer.member("deleted_at", nil as String?)
    writer.member("updated_at", nil as String?)
}

/// The whole number that clients expect beside the name, which is what identifies a key pair.
private func number(of pair: KeyPair) -> Int {
    let bytes = digest(.sha256, of: Array("\(pair.userID)/\(pair.name)".utf8)).prefix(4)
    return bytes.reduce(0) { $0 << 8 | Int($1) } & 0x7FFF_FFFF
}

private func listAnswer(_ pairs: ArraySlice<KeyPair>, next: String?, _ call: ComputeCall) -> HTTPResponse {
    jsonAnswer(capacity: 64 + pairs.count * 768) { writer in
        writer.array("keypairs") { writer in
            for pair in pairs {
                writer.object { writer in
                    writer.object("keypair") { writeShort(pair, call, to: &$0) }
                }
            }
        }
        if let next { call.writeNext("keypairs_links", path: "os-keypairs", marker: next, to: &writer) }
    }
}
