/// A guest's NICs, all of them alike.
public struct NICHardware: Sendable, Hashable {
    /// `nil`: virtio.
    public var model: NICModel?
    /// A queue for each vCPU; for virtio only, other models have one whatever is asked.
    public var isMultiqueue: Bool
    public var isRingPacked: Bool
    public var inbound: BandwidthLimit?
    public var outbound: BandwidthLimit?

    init(_ reader: HardwareReader) throws(HardwareError) {
        model = try reader.choice(property: "hw_vif_model")
        isMultiqueue = try reader.agreedFlag("vif_multiqueue_enabled") ?? false
        isRingPacked = try reader.agreedFlag("virtio_packed_ring") ?? false
        inbound = try BandwidthLimit("inbound", reader)
        outbound = try BandwidthLimit("outbound", reader)
    }
}

/// Limits of a NIC in one direction, as the guest sees it.
public struct BandwidthLimit: Sendable, Hashable {
    /// kB a second.
    public var average: Int
    /// kB a second while a burst lasts.
    public var peak: Int?
    /// kB that may go at the peak rate.
    public var burst: Int?

    init?(_ direction: String, _ reader: HardwareReader) throws(HardwareError) {
        func figure(_ name: String) throws(HardwareError) -> Int? {
            try reader.whole(spec: "quota:vif_\(direction)_\(name)").flatMap { $0 == 0 ? nil : $0 }
        }
        let average = try figure("average")
        (peak, burst) = (try figure("peak"), try figure("burst"))
        guard let average else {
            for name in ["peak", "burst"] where try figure(name) != nil {
                guard let setting = reader.spec("quota:vif_\(direction)_\(name)") else { continue }
                throw HardwareError(setting, "quota:vif_\(direction)_average is wanted with it")
            }
            return nil
        }
        self.average = average
    }
}
