public import Model

/// Passes hosts that have what the flavor's extra specs demand of them: those of the scope `capabilities`, and those
/// without a scope that name an attribute of a host.
public struct ComputeCapabilitiesFilter: PreparingFilter {
    public let name = "ComputeCapabilitiesFilter"
    public let runsOncePerRequest = true

    public init() {}

    public func isNeutral(for request: borrowing PlacementRequest) -> Bool {
        request.flavor?.extraSpecs.isEmpty ?? true
    }

    public func prepared(for request: borrowing PlacementRequest) -> any HostFilter {
        PreparedCapabilities(request.flavor?.extraSpecs ?? [:])
    }

    public func verdictKey(for request: borrowing PlacementRequest) -> VerdictKey? {
        VerdictKey(name, specs: request.flavor?.extraSpecs ?? [:])
    }
}

/// What one flavor demands of a host's attributes.
private struct PreparedCapabilities: HostFilter {
    private struct Demand {
        var path: [String]
        var text: String
        var operation: ExtraSpecOperator
        /// One without a scope counts only where a host has such an attribute.
        var isScoped: Bool
    }

    let name = "ComputeCapabilitiesFilter"
    private var demands: [Demand] = []

    init(_ specs: [String: String]) {
        for (key, text) in specs.sorted(by: { $0.key < $1.key }) {
            var path = key.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
            let isScoped = path.count > 1
            if isScoped, path.removeFirst() != "capabilities" { continue }
            demands.append(
                Demand(path: path, text: text, operation: ExtraSpecOperator(text), isScoped: isScoped))
        }
    }

    func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        for demand in demands {
            let value = host.attribute(at: demand.path)
            if value == nil, !demand.isScoped { continue }
            guard let value, !value.isNull, demand.operation.admits(value.pythonText) else {
                return Rejection(reason: "without \(demand.path.joined(separator: ":")) \(demand.text)")
            }
        }
        return nil
    }
}

/// Passes hosts with every trait that the flavor or the image requires, and none that the flavor forbids
/// (`trait:HW_CPU_X86_AVX=required`). In Nova Placement asks that.
public struct TraitsFilter: PreparingFilter {
    public let name = "TraitsFilter"
    public let runsOncePerRequest = true
    public let runsOnRebuild = true

    public init() {}

    public func isNeutral(for request: borrowing PlacementRequest) -> Bool {
        Self.wishes(request.flavor?.extraSpecs ?? [:]).isEmpty && Self.wishes(request.imageProperties ?? [:]).isEmpty
    }

    public func prepared(for request: borrowing PlacementRequest) -> any HostFilter {
        PreparedTraits(Self.wishes(request.flavor?.extraSpecs ?? [:]) + Self.wishes(request.imageProperties ?? [:]))
    }

    public func verdictKey(for request: borrowing PlacementRequest) -> VerdictKey? {
        VerdictKey(name, specs: request.flavor?.extraSpecs ?? [:], properties: request.imageProperties ?? [:])
    }

    private static func wishes(_ settings: [String: String]) -> [(String, String)] {
        settings.compactMap { key, value in
            guard let colon = key.firstIndex(of: ":"), key[..<colon].hasPrefix("trait") else { return nil }
            return (String(key[key.index(after: colon)...]), value)
        }.sorted { $0 < $1 }
    }
}

/// The traits that one request asks for.
private struct PreparedTraits: HostFilter {
    let name = "TraitsFilter"
    private let wishes: [(trait: String, wish: String)]

    init(_ wishes: [(String, String)]) { self.wishes = wishes.map { (trait: $0.0, wish: $0.1) } }

    func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        for (trait, wish) in wishes {
            let isThere = host.traits.contains(trait)
            switch wish {
            case "required": if !isThere { return Rejection(reason: "without the trait \(trait)") }
            case "forbidden": if isThere { return Rejection(reason: "with the forbidden trait \(trait)") }
            default: return Rejection(reason: "asked for a trait by '\(wish)', which is neither required nor forbidden")
            }
        }
        return nil
    }
}
