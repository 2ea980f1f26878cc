internal import Model
internal import Scheduling

/// The hints of a request for servers: what the scheduler's filters read beside the server itself.
enum SchedulerHints {
    private static let mostValues = 64

    /// By name, each with its values. Known names have the form that Nova gives them; others are kept for filters of
    /// their own. Throws what is malformed, and what there is no place for.
    static func read(_ value: JSON) throws(APIError) -> [String: [String]] {
        guard let members = value.members, members.count <= mostValues else {
            throw .badRequest("Invalid input for field/attribute os:scheduler_hints: an object is wanted.")
        }
        var hints: [String: [String]] = [:]
        for (name, value) in members where !value.isNull {
            guard name.utf8.count <= 255 else { throw malformed(name, "a shorter name") }
            switch name {
            case "group": hints[name] = try uuids(name, value, most: 1)
            case "same_host", "different_host": hints[name] = try uuids(name, value, most: mostValues)
            case "query": hints[name] = [try query(name, value)]
            case "build_near_host_ip": hints[name] = [try address(name, value)]
            case "cidr": hints[name] = [try prefix(name, value)]
            case "target_cell", "different_cell": throw .notAvailable("The scheduler hint '\(name)'")
            default: hints[name] = try texts(name, value)
            }
        }
        return hints
    }

    private static func malformed(_ name: String, _ wanted: String) -> APIError {
        .badRequest("Invalid input for field/attribute os:scheduler_hints, \(name.prefix(64)): \(wanted) is wanted.")
    }

    private static func texts(_ name: String, _ value: JSON) throws(APIError) -> [String] {
        let values = value.list ?? [value]
        var texts: [String] = []
        for value in values {
            guard let text = value.text, text.utf8.count <= 255 else {
                throw malformed(name, "a text, or a list of them")
            }
            texts.append(text)
        }
        guard texts.count <= mostValues else { throw malformed(name, "at most \(mostValues) texts") }
        return texts
    }

    private static func uuids(_ name: String, _ value: JSON, most: Int) throws(APIError) -> [String] {
        let texts = try texts(name, value)
        guard (1...most).contains(texts.count), texts.allSatisfy(isUUID) else {
            throw malformed(name, most == 1 ? "a uuid" : "a uuid, or a list of them")
        }
        return texts.map { $0.lowercased() }
    }

    /// A query as a text, or written out.
    private static func query(_ name: String, _ value: JSON) throws(APIError) -> String {
        let text = value.text ?? String(decoding: value.serialized(), as: UTF8.self)
        guard value.text != nil || value.list != nil, text.utf8.count <= 65_536 else {
            throw malformed(name, "a query")
        }
        do throws(HostQuery.Malformed) {
            _ = try HostQuery(parsing: text)
        } catch {
            throw malformed(name, "a query that can be read (this one: \(error.reason))")
        }
        return text
    }

    private static func address(_ name: String, _ value: JSON) throws(APIError) -> String {
        guard let text = value.text, isIPv4(text) || isIPv6(text) else { throw malformed(name, "an address") }
        return text
    }

    private static func prefix(_ name: String, _ value: JSON) throws(APIError) -> String {
        guard let text = value.text, text.hasPrefix("/"), let length = Int(text.dropFirst()), (0...128).contains(length)
        else { throw malformed(name, "a length of a network, /24") }
        return text
    }
}
