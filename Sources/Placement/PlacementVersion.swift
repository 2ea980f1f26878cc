internal import HTTP

/// A version of the Placement API: `1.N`.
struct PlacementVersion: Sendable, Hashable, CustomStringConvertible {
    let minor: Int

    init(_ minor: Int) { self.minor = minor }

    static let minimum = PlacementVersion(0)
    static let maximum = PlacementVersion(changes.last?.minor ?? 0)

    var description: String { "1.\(minor)" }

    /// The version that a request asks for; the minimum when it asks for none. Throws 406 and 400.
    static func requested(by headers: HTTPFields) throws(PlacementError) -> PlacementVersion {
        guard let text = asked(headers) else { return minimum }
        if text == "latest" { return maximum }
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 2, let major = number(parts[0]), let minor = number(parts[1]) else {
            throw PlacementError(400, "invalid version string: \(text)")
        }
        guard major == 1, minor <= maximum.minor else {
            throw PlacementError(
                406, "Unacceptable version header: \(text)", code: .undefined, headers: [:],
                versions: (minimum.description, maximum.description))
        }
        return PlacementVersion(minor)
    }

    private static func asked(_ headers: HTTPFields) -> String? {
        for field in headers.all("OpenStack-API-Version") {
            for part in field.split(separator: ",") {
                let words = part.split(separator: " ")
                if words.count == 2, words[0].lowercased() == "placement" { return String(words[1]) }
            }
        }
        return nil
    }

    private static func number(_ text: Substring) -> Int? {
        guard (1...5).contains(text.utf8.count), text.utf8.allSatisfy({ (48...57).contains($0) }) else { return nil }
        return Int(text)
    }

    /// What each version changed, and so what the maximum promises. Everything here is only read: changes of writing have
    /// nothing to answer for.
    static let changes: [(minor: Int, summary: String)] = [
        (1, "aggregates of a provider"), (2, "resource classes"), (3, "providers by member_of"),
        (4, "providers by resources"), (5, "written: all inventories deleted at once"), (6, "traits"),
        (7, "written: resource classes by PUT"), (8, "written: project and user of allocations"),
        (9, "usages of a project"), (10, "allocation candidates"), (11, "providers link to their allocations"),
        (12, "allocations name project and user; candidates are objects"), (13, "written: several allocations at once"),
        (14, "root and parent of a provider; in_tree"), (15, "Last-Modified and Cache-Control"),
        (16, "candidates have a limit"), (17, "candidates by required, with traits"), (18, "providers by required"),
        (19, "aggregates come with the generation"), (20, "written: POST answers with the provider"),
        (21, "candidates by member_of"), (22, "forbidden traits"), (23, "errors have a code"),
        (24, "member_of more than once"), (25, "numbered groups of candidates"),
        (26, "written: everything may be reserved"), (27, "summaries have every resource class"),
        (28, "the generation of consumers"), (29, "summaries name root and parent"), (30, "written: reshaper"),
        (31, "candidates by in_tree"), (32, "forbidden aggregates"), (33, "groups of candidates have names"),
        (34, "candidates say which group is where"), (35, "candidates by traits of the root"),
        (36, "groups in the same subtree"), (37, "written: parents of providers"), (38, "the type of consumers"),
        (39, "any of several traits"),
    ]
}
