public import Model

/// Passes hosts for which the query of the hint `query` is true: `[">=", "$free_ram_mb", 1024]`.
public struct JsonFilter: PreparingFilter {
    public let name = "JsonFilter"

    public init() {}

    public func isNeutral(for request: borrowing PlacementRequest) -> Bool {
        request.schedulerHints["query"]?.first?.isEmpty ?? true
    }

    public func prepared(for request: borrowing PlacementRequest) -> any HostFilter {
        PreparedQuery(request.schedulerHints["query"]?.first ?? "")
    }

    public func verdictKey(for request: borrowing PlacementRequest) -> VerdictKey? {
        VerdictKey(name, text: request.schedulerHints["query"]?.first ?? "")
    }
}

/// The query of one request.
private struct PreparedQuery: HostFilter {
    let name = "JsonFilter"
    private let query: Result<HostQuery, HostQuery.Malformed>?

    init(_ text: String) {
        query = text.isEmpty ? nil : Result { () throws(HostQuery.Malformed) in try HostQuery(parsing: text) }
    }

    func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        switch query {
        case .success(let query):
            do throws(HostQuery.Unanswerable) {
                return try query.holds(for: host) ? nil : Rejection(reason: "for which the query is not true")
            } catch {
                return Rejection(reason: "for which the query has no answer: it compares \(error.what)")
            }
        case .failure(let error):
            return Rejection(reason: "asked by a query that cannot be read: \(error.reason)")
        case nil: return nil
        }
    }
}

/// A query over the attributes of hosts, in Nova's language of nested lists.
public struct HostQuery: Sendable {
    public struct Malformed: Error, Sendable, Hashable {
        public var reason: String
    }

    /// For one host: it asks which of two things is more that have no order.
    struct Unanswerable: Error {
        /// `a string with a number`
        var what: String
    }

    private enum Value {
        case json(JSON)
        case flag(Bool)
        /// Of `not`, which answers each of its arguments.
        case flags([Bool])

        var typeName: String {
            switch self {
            case .json(let value): value.typeName
            case .flag: "boolean"
            case .flags: "list"
            }
        }

        /// As Python takes it: a list with anything in it is true.
        var isTrue: Bool {
            switch self {
            case .flag(let flag): flag
            case .flags(let flags): !flags.isEmpty
            case .json(.null): false
            case .json(.bool(let flag)): flag
            case .json(.integer(let number)): number != 0
            case .json(.number(let number)): number != 0
            case .json(.string(let text)): !text.isEmpty
            case .json(.array(let elements)): !elements.isEmpty
            case .json(.object(let members)): !members.isEmpty
            }
        }
    }

    private static let operators: Set<String> = ["=", "<", ">", "<=", ">=", "in", "not", "or", "and"]

    private let query: JSON

    /// Throws what is wrong with it: no JSON, no list, an operator that there is not.
    public init(parsing text: String) throws(Malformed) {
        do throws(JSONError) {
            query = try JSON(parsing: Array(text.utf8))
        } catch {
            throw Malformed(reason: "it is no JSON")
        }
        guard query.list != nil else { throw Malformed(reason: "it is no list") }
        try Self.check(query)
    }

    private static func check(_ value: JSON) throws(Malformed) {
        guard case .array(let elements) = value else {
            if case .object = value { throw Malformed(reason: "it has an object") }
            return
        }
        guard let first = elements.first else { return }
        guard let name = first.text, operators.contains(name) else {
            throw Malformed(reason: "\(first.text ?? first.typeName) is no operator")
        }
        for element in elements.dropFirst() { try check(element) }
    }

    func holds(for host: borrowing HostState) throws(Unanswerable) -> Bool {
        guard query.list?.isEmpty != true else { return true }
        switch try evaluate(query, host) {
        case .flags(let flags): return flags.contains(true)
        case let value?: return value.isTrue
        case nil: return false
        }
    }

    /// `nil` for an attribute that there is not: it is as if it had not been written.
    private func evaluate(_ value: JSON, _ host: borrowing HostState) throws(Unanswerable) -> Value? {
        switch value {
        case .string(let text) where text.hasPrefix("$"):
            let path = text.dropFirst().split(separator: ".", omittingEmptySubsequences: false).map(String.init)
            return host.attribute(at: path).map { .json($0) }
        case .array(let elements):
            guard let name = elements.first?.text else { return .json(.array([])) }
            var arguments: [Value] = []
            for element in elements.dropFirst() {
                if let value = try evaluate(element, host) { arguments.append(value) }
            }
            return try apply(name, arguments)
        default: return .json(value)
        }
    }

    private func apply(_ name: String, _ arguments: [Value]) throws(Unanswerable) -> Value {
        switch name {
        case "not": return .flags(arguments.map { !$0.isTrue })
        case "and": return .flag(arguments.allSatisfy(\.isTrue))
        case "or": return .flag(arguments.contains(where: \.isTrue))
        default: break
        }
        guard let first = arguments.first, arguments.count > 1 else { return .flag(false) }
        let rest = arguments.dropFirst()
        switch name {
        case "in": return .flag(rest.contains { Self.areEqual(first, $0) })
        case "=": return .flag(rest.allSatisfy { Self.areEqual(first, $0) })
        default: break
        }
        for other in rest {
            let order = try Self.order(first, other)
            let holds =
                switch name {
                case "<": order < 0
                case ">": order > 0
                case "<=": order <= 0
                default: order >= 0
                }
            guard holds else { return .flag(false) }
        }
        return .flag(true)
    }

    private static func areEqual(_ left: Value, _ right: Value) -> Bool {
        if let order = try? order(left, right) { return order == 0 }
        guard case (.json(let one), .json(let other)) = (left, right) else { return false }
        return one == other
    }

    /// Numbers with numbers, texts with texts.
    private static func order(_ left: Value, _ right: Value) throws(Unanswerable) -> Int {
        switch (left, right) {
        case (.json(let one), .json(let other)):
            if let one = one.double, let other = other.double { return one < other ? -1 : one > other ? 1 : 0 }
            if let one = one.text, let other = other.text { return one < other ? -1 : one > other ? 1 : 0 }
        case (.flag(let one), .flag(let other)): return one == other ? 0 : one ? 1 : -1
        default: break
        }
        throw Unanswerable(what: "a \(left.typeName) with a \(right.typeName)")
    }
}
