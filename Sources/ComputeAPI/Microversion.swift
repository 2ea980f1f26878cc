internal import HTTP

/// A version of the compute API: `2.N`.
struct Microversion: Sendable, Hashable, Comparable, CustomStringConvertible {
    let minor: Int

    init(_ minor: Int) { self.minor = minor }

    static let minimum = Microversion(1)

    var description: String { "2.\(minor)" }

    static func < (left: Microversion, right: Microversion) -> Bool { left.minor < right.minor }

    /// The version that a request asks for; the minimum when it asks for none. `OpenStack-API-Version` wins over Nova's
    /// own older header.
    static func requested(by headers: HTTPFields, maximum: Microversion) throws(APIError) -> Microversion {
        guard let text = asked(headers) else { return minimum }
        if text == "latest" { return maximum }
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 2, let major = number(parts[0]), let minor = number(parts[1]) else {
            throw .badRequest(
                "API Version String '\(text)' is of invalid format. Two numbers with a dot are wanted: 2.1.")
        }
        let version = Microversion(minor)
        guard major == 2, version >= minimum, version <= maximum else {
            throw APIError(
                406,
                "Version \(text) is not supported by the API. Minimum is \(minimum) and maximum is \(maximum).",
                headers: Self.headers(text))
        }
        return version
    }

    /// The two headers that say which version was used, and the two that say that the answer depends on them.
    static func headers(_ text: String) -> HTTPFields {
        [
            "OpenStack-API-Version": "compute \(text)", "X-OpenStack-Nova-API-Version": text,
            "Vary": "OpenStack-API-Version", "vary": "X-OpenStack-Nova-API-Version",
        ]
    }

    private static func asked(_ headers: HTTPFields) -> String? {
        for field in headers.all("OpenStack-API-Version") {
            for part in field.split(separator: ",") {
                let words = part.split(separator: " ")
                if words.count == 2, words[0].lowercased() == "compute" { return String(words[1]) }
            }
        }
        return headers["X-OpenStack-Nova-API-Version"].map { $0.filter { $0 != " " } }
    }

    private static func number(_ text: Substring) -> Int? {
        guard (1...5).contains(text.utf8.count), text.utf8.allSatisfy({ (48...57).contains($0) }) else { return nil }
        // "2.01" is not a version.
        guard text == "0" || text.first != "0" else { return nil }
        return Int(text)
    }
}
