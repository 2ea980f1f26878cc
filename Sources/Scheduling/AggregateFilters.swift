public import Model

/// Passes hosts whose aggregates have what the flavor's extra specs demand: those without a scope, and those of the scope
/// `aggregate_instance_extra_specs`.
public struct AggregateInstanceExtraSpecsFilter: HostFilter {
    public let name = "AggregateInstanceExtraSpecsFilter"
    public let runsOncePerRequest = true
    private static let scope = "aggregate_instance_extra_specs"

    public init() {}

    public func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        guard let specs = request.flavor?.extraSpecs, !specs.isEmpty else { return nil }
        let host = copy host
        for (key, demand) in specs.sorted(by: { $0.key < $1.key }) {
            var name = key
            if let colon = key.firstIndex(of: ":") {
                guard key[..<colon] == Self.scope else { continue }
                name = String(key[key.index(after: colon)...])
            }
            let operation = ExtraSpecOperator(demand)
            guard let values = host.merged(name), values.contains(where: { operation.admits($0) }) else {
                return Rejection(reason: "outside aggregates with \(name) \(demand)")
            }
        }
        return nil
    }
}

/// Passes hosts whose aggregates' metadata agrees with the image's properties of the same names.
public struct AggregateImagePropertiesIsolation: HostFilter {
    public let name = "AggregateImagePropertiesIsolation"
    public let runsOncePerRequest = true
    private let prefix: String?

    /// - Parameters: `[filter_scheduler] aggregate_image_properties_isolation_namespace` and `…_separator`.
    public init(namespace: String?, separator: String = ".") {
        prefix = namespace.flatMap { $0.isEmpty ? nil : $0 + separator }
    }

    public func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        guard let properties = request.imageProperties else { return nil }
        let host = copy host
        for key in Set(host.aggregates.flatMap(\.metadata.keys)).sorted() {
            if let prefix, !key.hasPrefix(prefix) { continue }
            guard let value = properties[key], let allowed = host.merged(key), !allowed.contains(value) else {
                continue
            }
            return Rejection(reason: "kept for images with another \(key)")
        }
        return nil
    }
}

/// Passes hosts that are kept for no project, or for this one (`filter_tenant_id`, and keys that begin so).
public struct AggregateMultiTenancyIsolation: HostFilter {
    public let name = "AggregateMultiTenancyIsolation"
    public let runsOncePerRequest = true

    public init() {}

    public func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        var isKept = false
        for aggregate in host.aggregates {
            for (key, value) in aggregate.metadata where key.hasPrefix("filter_tenant_id") {
                isKept = true
                if words(value).contains(request.projectID.rawValue) { return nil }
            }
        }
        return isKept ? Rejection(reason: "kept for other projects") : nil
    }
}

/// Passes hosts whose aggregates are for any flavor, or for this one by its name (`instance_type`).
public struct AggregateTypeAffinityFilter: HostFilter {
    public let name = "AggregateTypeAffinityFilter"
    public let runsOncePerRequest = true

    public init() {}

    public func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        guard let flavor = request.flavor, let names = copy(host).merged("instance_type"), !names.contains(flavor.name)
        else { return nil }
        return Rejection(reason: "kept for other flavors")
    }
}

/// A value that may be passed on.
func copy(_ host: borrowing HostState) -> HostState { copy host }
