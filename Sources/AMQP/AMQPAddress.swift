/// Where a broker is, from `amqp://USER@HOST:PORT/VHOST` or `amqps://…`. A password does not belong there.
public struct AMQPAddress: Sendable, Hashable {
    public var host: String
    public var port: Int
    public var user: String
    /// The virtual host: `/` where the URL has none.
    public var space: String
    public var isSecure: Bool

    /// `nil` for a text that is no such URL, or one with a password in it.
    public init?(_ url: String) {
        let rest: Substring
        if url.hasPrefix("amqp://") {
            (isSecure, rest) = (false, url.dropFirst("amqp://".count))
        } else if url.hasPrefix("amqps://") {
            (isSecure, rest) = (true, url.dropFirst("amqps://".count))
        } else {
            return nil
        }
        let parts = rest.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard let authority = parts.first, !rest.contains("?"), !rest.contains("#") else { return nil }
        var place = authority
        user = "guest"
        if let mark = authority.lastIndex(of: "@") {
            user = String(authority[..<mark])
            place = authority[authority.index(after: mark)...]
        }
        guard !user.contains(":"), let plain = Self.decoded(user), !plain.isEmpty else { return nil }
        user = plain
        var name = place
        var number = ""
        if place.hasPrefix("["), let end = place.firstIndex(of: "]") {
            name = place[place.index(after: place.startIndex)..<end]
            let rest = place[place.index(after: end)...]
            guard rest.isEmpty || rest.hasPrefix(":") && rest.count > 1 else { return nil }
            number = String(rest.dropFirst())
        } else if let colon = place.lastIndex(of: ":") {
            name = place[..<colon]
            number = String(place[place.index(after: colon)...])
            if number.isEmpty { return nil }
        }
        guard !name.isEmpty, let port = number.isEmpty ? (isSecure ? 5_671 : 5_672) : Int(number),
            (1...65_535).contains(port)
        else { return nil }
        (host, self.port) = (String(name), port)
        guard let space = Self.decoded(parts.count > 1 && !parts[1].isEmpty ? String(parts[1]) : "/") else {
            return nil
        }
        self.space = space
    }

    /// Without `%XX`; `nil` where that is not well formed or no text.
    private static func decoded(_ text: String) -> String? {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            let digits = rest.prefix(2)
            guard digits.count == 2, let digit = UInt8(String(decoding: digits, as: UTF8.self), radix: 16), digit > 0,
                digits.first != UInt8(ascii: "+")
            else { return nil }
            bytes.append(digit)
            rest = rest.dropFirst(2)
        }
        return String(validating: bytes, as: UTF8.self)
    }
}
