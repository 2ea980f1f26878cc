/// A guest's CPUs and their share of the host's.
public struct ProcessorHardware: Sendable, Hashable {
    public var topology: VirtualTopology
    /// Weight among the guests of a host.
    public var shares: Int?
    /// Microseconds of CPU time that each vCPU gets in each period; `nil` is as much as there is.
    public var quotaMicroseconds: Int?
    public var periodMicroseconds: Int?
    /// Whether the guest can count its CPU's events; `nil` is the hypervisor's default.
    public var hasPMU: Bool?
    public var addressWidthMode: AddressWidthMode?
    /// Bits of a physical address, with the mode `emulate`.
    public var addressBits: Int?

    init(_ reader: HardwareReader, vcpus: Int) throws(HardwareError) {
        topology = try VirtualTopology(vcpus: vcpus, reader)
        shares = try reader.whole(spec: "quota:cpu_shares")
        quotaMicroseconds = try reader.whole(spec: "quota:cpu_quota").flatMap { $0 < 0 ? nil : $0 }
        periodMicroseconds = try reader.whole(spec: "quota:cpu_period")
        hasPMU = try reader.agreedFlag("pmu")
        addressWidthMode = try reader.choice(agreed: "maxphysaddr_mode")
        let bits = try reader.agreed("maxphysaddr_bits")
        addressBits = try bits?.whole(.min ... .max)
        if let bits, addressWidthMode != .emulate {
            throw HardwareError(bits, "the mode (hw:maxphysaddr_mode) emulate is wanted with it")
        }
        if addressWidthMode == .emulate, bits == nil, let mode = try reader.agreed("maxphysaddr_mode") {
            throw HardwareError(mode, "the number of bits (hw:maxphysaddr_bits) is wanted with it")
        }
    }
}
