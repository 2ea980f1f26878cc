/// The routes of one router by path segment. A literal segment wins over a parameter, a parameter over the remainder.
struct RouteTree: Sendable {
    struct Route: Sendable {
        var pattern: String
        var parameterNames: [String]
        var options: RouteOptions
        var handler: HTTPHandler
    }

    struct Match: Sendable {
        var route: Route
        var values: [String]
    }

    enum Lookup: Sendable {
        case found(Match)
        /// The path exists with other methods.
        case otherMethods([HTTPMethod])
        case nothing
    }

    private struct Node: Sendable {
        var literals: [String: Int] = [:]
        var parameter: Int?
        var routes: [HTTPMethod: Route] = [:]
        var remainder: [HTTPMethod: Route] = [:]
    }

    private var nodes = [Node()]

    mutating func insert(
        _ method: HTTPMethod, _ pattern: String, _ options: RouteOptions, _ handler: @escaping HTTPHandler
    ) {
        var names: [String] = []
        var node = 0
        let segments = pathSegments(pattern)
        for (index, segment) in segments.enumerated() {
            if segment.hasPrefix("{"), segment.hasSuffix("...}") {
                precondition(index == segments.count - 1, "only the last segment takes the remainder: \(pattern)")
                names.append(String(segment.dropFirst().dropLast(4)))
                nodes[node].remainder[method] = Route(
                    pattern: pattern, parameterNames: names, options: options, handler: handler)
                return
            }
            if segment.hasPrefix("{"), segment.hasSuffix("}") {
                names.append(String(segment.dropFirst().dropLast()))
                let next = nodes[node].parameter ?? grow()
                nodes[node].parameter = next
                node = next
            } else {
                let key = String(segment)
                let next = nodes[node].literals[key] ?? grow()
                nodes[node].literals[key] = next
                node = next
            }
        }
        nodes[node].routes[method] = Route(pattern: pattern, parameterNames: names, options: options, handler: handler)
    }

    private mutating func grow() -> Int {
        nodes.append(Node())
        return nodes.count - 1
    }

    /// Finds the route of decoded `segments`; HEAD is served by GET where it has no route of its own.
    func find(_ method: HTTPMethod, _ segments: ArraySlice<String>) -> Lookup {
        var others: Set<HTTPMethod> = []
        var values: [String] = []
        if let match = search(0, method, segments, &values, &others) { return .found(match) }
        return others.isEmpty ? .nothing : .otherMethods(others.sorted { $0.rawValue < $1.rawValue })
    }

    private func search(
        _ index: Int, _ method: HTTPMethod, _ segments: ArraySlice<String>, _ values: inout [String],
        _ others: inout Set<HTTPMethod>
    ) -> Match? {
        let node = nodes[index]
        if let segment = segments.first {
            let rest = segments.dropFirst()
            if let next = node.literals[segment], let match = search(next, method, rest, &values, &others) {
                return match
            }
            if let next = node.parameter, !segment.isEmpty {
                values.append(segment)
                if let match = search(next, method, rest, &values, &others) { return match }
                values.removeLast()
            }
        } else if let route = pick(method, node.routes, &others) {
            return Match(route: route, values: values)
        }
        guard let route = pick(method, node.remainder, &others) else { return nil }
        return Match(route: route, values: values + [segments.joined(separator: "/")])
    }

    private func pick(_ method: HTTPMethod, _ routes: [HTTPMethod: Route], _ others: inout Set<HTTPMethod>) -> Route? {
        if let route = routes[method] ?? (method == .head ? routes[.get] : nil) { return route }
        others.formUnion(routes.keys)
        if routes[.get] != nil { others.insert(.head) }
        return nil
    }

    var all: [(HTTPMethod, String)] {
        nodes.flatMap { node in
            node.routes.map { ($0.key, $0.value.pattern) } + node.remainder.map { ($0.key, $0.value.pattern) }
        }
    }
}

/// The segments between slashes, without the one behind a trailing slash: `/a/b/` is `a`, `b`.
func pathSegments(_ path: String) -> [Substring] {
    var segments = path.split(separator: "/", omittingEmptySubsequences: false)
    if segments.first?.isEmpty == true { segments.removeFirst() }
    if segments.last?.isEmpty == true { segments.removeLast() }
    return segments
}
