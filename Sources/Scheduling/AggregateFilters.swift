internal import GuestHardware
public import Model
internal import Synchronization

/// Passes hosts whose aggregates have what the flavor's extra specs demand: those without a scope, and those of the scope
/// `aggregate_instance_extra_specs`.
public struct AggregateInstanceExtraSpecsFilter: PreparingFilter {
    public let name = "AggregateInstanceExtraSpecsFilter"
    public let runsOncePerRequest = true
    private static let scope = "aggregate_instance_extra_specs"

    public init() {}

    public func isNeutral(for request: borrowing PlacementRequest) -> Bool {
        request.flavor?.extraSpecs.isEmpty ?? true
    }

    public func prepared(for request: borrowing PlacementRequest) -> any HostFilter {
        PreparedAggregateSpecs(demands(request.flavor?.extraSpecs ?? [:]))
    }

    public func verdictKey(for request: borrowing PlacementRequest) -> VerdictKey? {
        VerdictKey(name, specs: request.flavor?.extraSpecs ?? [:])
    }

    private func demands(_ specs: [String: String]) -> [(String, String)] {
        specs.sorted { $0.key < $1.key }.compactMap { key, demand in
            guard let colon = key.firstIndex(of: ":") else { return (key, demand) }
            return key[..<colon] == Self.scope ? (String(key[key.index(after: colon)...]), demand) : nil
        }
    }
}

/// What one flavor demands of aggregates. Many hosts share one, so what each has is found out once.
private struct PreparedAggregateSpecs: HostFilter {
    private final class Memory: Sendable {
        /// Which demands an aggregate meets, in their order.
        let verdicts = Mutex<[ObjectIdentifier: [Bool]]>([:])
    }

    let name = "AggregateInstanceExtraSpecsFilter"
    private let demands: [(key: String, text: String, operation: ExtraSpecOperator)]
    private let memory = Memory()

    init(_ demands: [(String, String)]) {
        self.demands = demands.map { (key: $0.0, text: $0.1, operation: ExtraSpecOperator($0.1)) }
    }

    func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        guard !demands.isEmpty else { return nil }
        var met = [Bool](repeating: false, count: demands.count)
        for aggregate in host.aggregates {
            for (index, isMet) in verdict(of: aggregate).enumerated() where isMet { met[index] = true }
        }
        guard let index = met.firstIndex(of: false) else { return nil }
        return Rejection(reason: "outside aggregates with \(demands[index].key) \(demands[index].text)")
    }

    private func verdict(of aggregate: AggregateFacts) -> [Bool] {
        memory.verdicts.withLock { verdicts in
            if let known = verdicts[ObjectIdentifier(aggregate)] { return known }
            let made = demands.map { demand in
                aggregate.metadata[demand.key].map { words($0).contains { demand.operation.admits($0) } } ?? false
            }
            verdicts[ObjectIdentifier(aggregate)] = made
            return made
        }
    }
}

/// Passes hosts whose aggregates' metadata agrees with the image's properties of the same names. Values are the same in
/// whatever form each side has them: `yes` and `true`, `amd64` and `x86_64`.
public struct AggregateImagePropertiesIsolation: PreparingFilter {
    public let name = "AggregateImagePropertiesIsolation"
    public let runsOncePerRequest = true
    public let runsOnRebuild = true
    private let prefix: String?

    /// - Parameters: `[filter_scheduler] aggregate_image_properties_isolation_namespace` and `…_separator`.
    public init(namespace: String?, separator: String = ".") {
        prefix = namespace.flatMap { $0.isEmpty ? nil : $0 + separator }
    }

    public func isNeutral(for request: borrowing PlacementRequest) -> Bool {
        request.imageProperties?.isEmpty ?? true
    }

    public func prepared(for request: borrowing PlacementRequest) -> any HostFilter {
        PreparedImageIsolation(prefix: prefix, image: CanonicalProperties(request.imageProperties ?? [:]))
    }
}

/// What one image says, in its one form.
private struct PreparedImageIsolation: HostFilter {
    let name = "AggregateImagePropertiesIsolation"
    let prefix: String?
    let image: CanonicalProperties

    func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        for key in Set(host.aggregates.flatMap(\.metadata.keys)).sorted() {
            if let prefix, !key.hasPrefix(prefix) { continue }
            guard let value = image[key], let allowed = host.merged(key), !allowed.contains(value),
                !allowed.contains(where: { CanonicalProperties.value($0, of: key) == value })
            else { continue }
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

    public func isNeutral(for request: borrowing PlacementRequest) -> Bool {
        request.flavor == nil
    }

    public func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        guard let flavor = request.flavor, let names = host.merged("instance_type"), !names.contains(flavor.name)
        else { return nil }
        return Rejection(reason: "kept for other flavors")
    }
}
