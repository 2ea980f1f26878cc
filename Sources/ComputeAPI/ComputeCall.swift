internal import HTTP
internal import Model

/// One request on its way through the compute API: who asks, at which version, under which id.
struct ComputeCall: Sendable {
    let request: HTTPRequest
    let caller: APICaller
    let version: Microversion
    let requestID: RequestID
    /// `http://host:port/compute`: what links begin with.
    let base: String

    var query: QueryItems { request.query }

    func parameter(_ name: String) -> String { request.parameters[name] ?? "" }

    func isAtLeast(_ minor: Int) -> Bool { version.minor >= minor }

    func require(_ rule: String, owner: Bool = true) throws(APIError) {
        try Policy.require(rule, caller, owner: owner)
    }

    func allows(_ rule: String) -> Bool { Policy.allows(rule, caller) }

    func body() throws(APIError) -> JSON { try BodyFields.parse(request.bytes) }

    /// A link to one thing, as Nova writes them: `self` with the version, `bookmark` without.
    func writeLinks(_ path: String, to writer: inout JSONWriter) {
        writer.array("links") { writer in
            writer.object {
                $0.member("rel", "self")
                $0.member("href", "\(base)/v2.1/\(path)")
            }
            writer.object {
                $0.member("rel", "bookmark")
                $0.member("href", "\(base)/\(path)")
            }
        }
    }

    /// The `<things>_links` member with the link to the next page.
    func writeNext(_ name: String, path: String, marker: String, to writer: inout JSONWriter) {
        let kept = query.items.filter { $0.name != "marker" } + [(name: "marker", value: marker)]
        let text = kept.map { PercentEncoding.encode($0.name) + "=" + PercentEncoding.encode($0.value) }
        writer.array(name) { writer in
            writer.object {
                $0.member("rel", "next")
                $0.member("href", "\(base)/v2.1/\(path)?\(text.joined(separator: "&"))")
            }
        }
    }

    /// `limit` of the query: at most `maximum`, which is also the default. Throws 400 for text and negative numbers.
    func limit(maximum: Int) throws(APIError) -> Int {
        guard let text = query["limit"] else { return maximum }
        guard let limit = Int(text), limit >= 0 else {
            throw .badRequest("Invalid input for query parameter limit: a whole number, 0 or more, is wanted.")
        }
        return min(limit, maximum)
    }

    /// Cuts one page out of `things`: what follows the marker, up to the limit. Throws 400 for an unknown marker.
    func page<Thing>(
        of things: [Thing], maximum: Int, id: (Thing) -> String
    ) throws(APIError) -> (things: ArraySlice<Thing>, next: String?) {
        let limit = try limit(maximum: maximum)
        var rest = things[...]
        if let marker = query["marker"], !marker.isEmpty {
            guard let index = things.firstIndex(where: { id($0) == marker }) else {
                throw .badRequest("marker [\(marker)] not found")
            }
            rest = things[things.index(after: index)...]
        }
        let page = rest.prefix(limit)
        let hasMore = rest.count > limit
        return (page, hasMore ? page.last.map(id) : nil)
    }
}

/// An answer with a JSON object.
func jsonAnswer(_ status: Int = 200, capacity: Int = 512, _ body: (inout JSONWriter) throws -> Void) rethrows
    -> HTTPResponse
{
    var writer = JSONWriter(capacity: capacity)
    try writer.object(body)
    return .json(status, writer.finish())
}
