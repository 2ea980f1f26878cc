public import Model

/// Passes hosts that have what the flavor's extra specs demand of them: those of the scope `capabilities`, and those
/// without a scope that name an attribute of a host.
public struct ComputeCapabilitiesFilter: HostFilter {
    public let name = "ComputeCapabilitiesFilter"
    public let runsOncePerRequest = true

    public init() {}

    public func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        guard let specs = request.flavor?.extraSpecs, !specs.isEmpty else { return nil }
        let host = copy host
        for (key, demand) in specs.sorted(by: { $0.key < $1.key }) {
            var path = key.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
            if path.count > 1 {
                guard path.removeFirst() == "capabilities" else { continue }
            } else if host.attribute(key) == nil {
                continue
            }
            let value = host.attribute(at: path)
            guard let value, !value.isNull, ExtraSpecOperator(demand).admits(value.pythonText) else {
                return Rejection(reason: "without \(path.joined(separator: ":")) \(demand)")
            }
        }
        return nil
    }
}

/// Passes hosts that can run what the image is for: its architecture, hypervisor and mode.
public struct ImagePropertiesFilter: HostFilter {
    public let name = "ImagePropertiesFilter"
    public let runsOncePerRequest = true
    private let defaultArchitecture: String?

    /// - Parameter defaultArchitecture: `[filter_scheduler] image_properties_default_architecture`.
    public init(defaultArchitecture: String? = nil) {
        self.defaultArchitecture = defaultArchitecture.flatMap { $0.isEmpty ? nil : $0 }
    }

    public func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        guard let properties = request.imageProperties else { return nil }
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

    /// A QEMU without hardware virtualization says `QEMU`, one with it `KVM`; images mean either by both.
    private static func runs(_ host: String, _ wanted: String) -> Bool {
        let names = host.lowercased() == "kvm" ? ["kvm", "qemu"] : [host.lowercased()]
        return names.contains(wanted)
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
public struct TraitsFilter: HostFilter {
    public let name = "TraitsFilter"
    public let runsOncePerRequest = true

    public init() {}

    public func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        let wishes = Self.wishes(request.flavor?.extraSpecs ?? [:]) + Self.wishes(request.imageProperties ?? [:])
        guard !wishes.isEmpty else { return nil }
        let traits = Set(host.traits)
        for (trait, wish) in wishes {
            switch wish {
            case "required": if !traits.contains(trait) { return Rejection(reason: "without the trait \(trait)") }
            case "forbidden":
                if traits.contains(trait) { return Rejection(reason: "with the forbidden trait \(trait)") }
            default: return Rejection(reason: "asked for a trait by '\(wish)', which is neither required nor forbidden")
            }
        }
        return nil
    }

    private static func wishes(_ settings: [String: String]) -> [(String, String)] {
        settings.compactMap { key, value in
            guard let colon = key.firstIndex(of: ":"), key[..<colon].hasPrefix("trait") else { return nil }
            return (String(key[key.index(after: colon)...]), value)
        }.sorted { $0 < $1 }
    }
}
