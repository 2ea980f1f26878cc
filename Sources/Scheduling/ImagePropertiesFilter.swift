internal import GuestHardware
public import Model

/// Passes hosts that can run what the image is for: its architecture, hypervisor and mode.
public struct ImagePropertiesFilter: PreparingFilter {
    public let name = "ImagePropertiesFilter"
    public let runsOncePerRequest = true
    public let runsOnRebuild = true
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

    public func prepared(for request: borrowing PlacementRequest) -> any HostFilter {
        PreparedImage(request.imageProperties.map(CanonicalProperties.init), defaultArchitecture)
    }
}

/// What one image is for, in the form in which it is compared.
private struct PreparedImage: HostFilter {
    let name = "ImagePropertiesFilter"
    private let architecture: String?
    private let hypervisor: String?
    private let mode: String?
    private let version: String?

    init(_ image: CanonicalProperties?, _ defaultArchitecture: String?) {
        architecture = image.flatMap { $0["hw_architecture"] ?? defaultArchitecture.map(Architecture.canonical) }
        (hypervisor, mode) = (image?["img_hv_type"], image?["hw_vm_mode"])
        version = image?["img_hv_requested_version"]
    }

    func reject(_ host: borrowing HostState, for request: borrowing PlacementRequest) -> Rejection? {
        guard architecture != nil || hypervisor != nil || mode != nil else { return nil }
        guard !host.architecture.isEmpty || !host.hypervisorType.isEmpty else {
            return Rejection(reason: "of which it is not known what they run")
        }
        if let architecture, architecture != Architecture.canonical(host.architecture) {
            return Rejection(reason: "not of the architecture \(architecture)")
        }
        if let hypervisor, !Self.runs(CanonicalProperties.value(host.hypervisorType, of: "img_hv_type"), hypervisor) {
            return Rejection(reason: "not of the hypervisor \(hypervisor)")
        }
        if let mode, mode != "hvm" { return Rejection(reason: "without the mode \(mode)") }
        if let version, host.hypervisorVersion > 0, !Self.admits(host.hypervisorVersion, version) {
            return Rejection(reason: "not of a hypervisor version \(version)")
        }
        return nil
    }

    /// libvirt says `QEMU` of a host, with hardware virtualization and without; images mean either by both names.
    private static func runs(_ host: String, _ wanted: String) -> Bool {
        let family = ["kvm", "qemu"]
        return host == wanted || (family.contains(host) && family.contains(wanted))
    }

    /// `>=2.5,<10.0`: every part must hold. What cannot be read holds never.
    private static func admits(_ version: Int, _ predicates: String) -> Bool {
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
