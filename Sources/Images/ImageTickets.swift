internal import Crypto
public import Model

/// What a ticket lets its bearer do with an image's bytes.
public enum ImageAccess: String, Sendable, Hashable, Codable {
    case read
    /// To upload, once, while the image is queued.
    case write
    /// To delete the image with its bytes.
    case delete
}

/// Who a ticket was made for, and until when.
public struct ImageTicket: Sendable, Hashable {
    public let host: HostName
    public let image: ImageID
    public let access: ImageAccess
    public let expiresAt: Timestamp
}

/// Why a ticket is no good. The answer to the bearer does not say which.
public enum ImageTicketError: Error, Sendable, Hashable {
    case malformed, forged, expired
    /// The ticket is genuine, for another image or another kind of access.
    case otherImage
}

/// Makes and checks the tickets by which hosts fetch image bytes: no user's token ever reaches a host.
///
/// A ticket is `apus1.<payload>.<mac>`: base64url of the four facts, and HMAC-SHA256 over it. Nothing is stored; whoever
/// shares the secret can check.
public struct ImageTicketAuthority: Sendable {
    /// The setting under which the control processes share the secret.
    public static let settingName = "image.ticket_secret"

    private static let prefix = "apus1"
    private static let maximumLength = 1_024

    private let secret: [UInt8]

    /// - Parameter secret: at least 32 random bytes, the same in every process that makes or checks tickets.
    public init(secret: [UInt8]) {
        precondition(secret.count >= 32, "a short secret would let tickets be forged")
        self.secret = secret
    }

    /// A ticket for `host` on `image`, valid before `expiresAt`.
    public func issue(host: HostName, image: ImageID, access: ImageAccess = .read, expiresAt: Timestamp) -> String {
        let facts = "\(access.rawValue)\n\(expiresAt.microseconds)\n\(image)\n\(host)"
        let payload = Self.prefix + "." + Base64.encodeURL(Array(facts.utf8))
        return payload + "." + Base64.encodeURL(hmacSHA256(key: secret, Array(payload.utf8)))
    }

    /// The ticket's facts, if it is genuine, for `image` and `access`, and not expired at `now`.
    @discardableResult
    public func verify(
        _ ticket: String, image: ImageID, access: ImageAccess = .read, now: Timestamp
    ) throws(ImageTicketError) -> ImageTicket {
        let parts = ticket.split(separator: ".", omittingEmptySubsequences: false)
        guard ticket.utf8.count <= Self.maximumLength, parts.count == 3, parts[0] == Self.prefix,
            let mac = Base64.decodeURL(String(parts[2])), let facts = Base64.decodeURL(String(parts[1]))
        else { throw .malformed }
        let payload = "\(parts[0]).\(parts[1])"
        guard constantTimeEquals(mac, hmacSHA256(key: secret, Array(payload.utf8))) else { throw .forged }
        let lines = String(decoding: facts, as: UTF8.self).split(
            separator: "\n", maxSplits: 3, omittingEmptySubsequences: false)
        guard lines.count == 4, let granted = ImageAccess(rawValue: String(lines[0])), let expiry = Int64(lines[1])
        else { throw .malformed }
        let found = ImageTicket(
            host: HostName(String(lines[3])), image: ImageID(String(lines[2])), access: granted,
            expiresAt: Timestamp(microseconds: expiry))
        guard now < found.expiresAt else { throw .expired }
        guard found.image == image, found.access == access else { throw .otherImage }
        return found
    }
}
