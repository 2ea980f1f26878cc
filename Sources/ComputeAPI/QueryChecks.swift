internal import HTTP
internal import Model

extension ComputeCall {
    /// Throws 400 for a query parameter that is not among `names`, from 2.75 on where nothing else is said; what begins
    /// with `_` is let through.
    func requireKnownQuery(_ names: Set<String>, from minor: Int = 75) throws(APIError) {
        guard isAtLeast(minor) else { return }
        for (name, _) in query.items where !names.contains(name) && !name.hasPrefix("_") {
            throw .badRequest("Invalid input for query parameters: '\(name.prefix(64))' is not known here.")
        }
    }

    /// A time of the query; `nil` where there is none. Throws 400 for what is no ISO 8601 time.
    func time(_ name: String) throws(APIError) -> Timestamp? {
        guard let text = query[name] else { return nil }
        // A plus sign for the zone arrives as a space.
        guard let time = Timestamp(iso8601: text.replacingSpaceInZone) else {
            throw .badRequest("Invalid input for query parameter \(name): an ISO 8601 time is wanted.")
        }
        return time
    }
}

/// `changes-since`, and from 2.66 on `changes-before`.
struct ChangeTimes {
    let since: Timestamp?
    /// Inclusive.
    let before: Timestamp?

    /// Throws 400 for what cannot be read, and for an end before the beginning.
    init(_ call: ComputeCall) throws(APIError) {
        since = try call.time("changes-since")
        before = call.isAtLeast(66) ? try call.time("changes-before") : nil
        if let since, let before, before < since {
            throw .badRequest("The value of changes-since must be less than or equal to changes-before.")
        }
    }
}

extension String {
    /// `2026-01-01T00:00:00 01:00` as `2026-01-01T00:00:00+01:00`.
    fileprivate var replacingSpaceInZone: String {
        guard utf8.count > 19, let space = lastIndex(of: " "), utf8.distance(from: utf8.startIndex, to: space) >= 19
        else { return self }
        return self[..<space] + "+" + self[index(after: space)...]
    }
}
