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

/// Passes hosts that can run what the image is for: its architecture, hypervisor and mode.
public struct ImagePropertiesFilter: HostFilter {
    public let name = "ImagePropertiesFilter"
    public let runsOncePerRequest = true
    /// A version alone asks for nothing: it is of one of these.
    private static let keys = [
        "hw_architecture", "architecture", "img_hv_type", "hypervisor_type", "hw_vm_mode", "vm_mode",
    ]
    private let defaultArchitecture: String?

    /// - Parameter defaultArchitecture: `[filter_scheduler] image_properties_default_architecture`.
    public init(defaultArchitecture: String? = nil) {
        self.defaultArchitecture = defaultArchitecture.flatMap { $0.isEmpty ? nil : $0 }
    }

    public func isNeutral(for request: borrowing PlacementRequest) -> Bool {
        guard let properties = request.imageProperties else { return true }
        return defaultArchitecture == nil && Self.keys.allSatisfy { properties[$0] == nil }
    }

    public func verdictKey(for request: borrowing PlacementRequest) -> VerdictKey? {
        VerdictKey(name, properties: request.imageProperties ?? [:])
    }

    public func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        guard !isNeutral(for: request), let properties = request.imageProperties else { return nil }
        guard !host.architecture.isEmpty || !host.hypervisorType.isEmpty else {
            return Rejection(reason: "of which it is not known what they run")
        }
        if let text = properties["hw_architecture"] ?? properties["architecture"] ?? defaultArchitecture {
            let wanted = Self.canonical(architecture: text)
            guard wanted == Self.canonical(architecture: host.architecture) else {
                return Rejection(reason: "not of the architecture \(wanted)")
            }
        }
        if let text = properties["img_hv_type"] ?? properties["hypervisor_type"] {
            guard Self.runs(host.hypervisorType, text.lowercased()) else {
                return Rejection(reason: "not of the hypervisor \(text)")
            }
        }
        if let mode = (properties["hw_vm_mode"] ?? properties["vm_mode"])?.lowercased(), mode != "hvm" {
            return Rejection(reason: "without the mode \(mode)")
        }
        if let text = properties["img_hv_requested_version"] ?? properties["hypervisor_version_requires"],
            host.hypervisorVersion > 0
        {
            guard Self.admits(host.hypervisorVersion, text) else {
                return Rejection(reason: "not of a hypervisor version \(text)")
            }
        }
        return nil
    }

    /// libvirt says `QEMU` of a host, with hardware virtualization and without; images mean either by both names.
    private static func runs(_ host: String, _ wanted: String) -> Bool {
        let family = ["kvm", "qemu"]
        return host.lowercased() == wanted || (family.contains(host.lowercased()) && family.contains(wanted))
    }

    static func canonical(architecture: String) -> String {
        let name = architecture.lowercased()
        return switch name {
        case "amd64", "x86-64", "x64": "x86_64"
        case "i386", "i486", "i586", "i686", "x86_32": "i686"
        case "arm64": "aarch64"
        default: name
        }
    }

    /// `>=2.5,<10.0`: every part must hold. What cannot be read holds never.
    static func admits(_ version: Int, _ predicates: String) -> Bool {
        let own = [version / 1_000_000, version / 1_000 % 1_000, version % 1_000]
        return predicates.split(separator: ",").map { trimmed($0) }.allSatisfy { part in
            guard let sign = ["<=", ">=", "==", "!=", "<", ">", "="].first(where: part.hasPrefix) else { return false }
            let numbers = trimmed(part.dropFirst(sign.count)).split(separator: ".", omittingEmptySubsequences: false)
            let parts = numbers.compactMap { Int($0) }
            guard !parts.isEmpty, parts.count == numbers.count, parts.count <= 3 else { return false }
            let wanted = parts + Array(repeating: 0, count: 3 - parts.count)
            return switch sign {
            case "<": own.lexicographicallyPrecedes(wanted)
            case "<=": !wanted.lexicographicallyPrecedes(own)
            case ">": wanted.lexicographicallyPrecedes(own)
            case ">=": !own.lexicographicallyPrecedes(wanted)
            case "!=": own != wanted
            default: own == wanted
            }
        }
    }
}

/// Passes hosts with every trait that the flavor or the image requires, and none that the flavor forbids
/// (`trait:HW_CPU_X86_AVX=required`). In Nova Placement asks that.
public struct TraitsFilter: PreparingFilter {
    public let name = "TraitsFilter"
    public let runsOncePerRequest = true

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
