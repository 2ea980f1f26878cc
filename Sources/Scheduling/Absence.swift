public import Model

extension FilterScheduler {
    /// Gives back what an instance of `request` has of the host `name`, so that an explanation says where it would come if
    /// it were nowhere. Which processors, pages and devices of the host are its own no report tells: those stay taken.
    public mutating func takeOut(_ request: PlacementRequest, from name: HostName) {
        change(name) { host in
            host.used =
                host.used - request.resources - Resources(vcpus: 0, memoryMiB: host.guestOverheadMiB, diskGiB: 0)
            host.instanceCount = max(0, host.instanceCount - 1)
        }
    }
}

extension PlacementRequest {
    /// Whether an instance has, or may have, certain processors, pages or devices of its host.
    public var asksForHardware: Bool {
        HardwareDemand.mayAsk(self) || flavor?.extraSpecs["pci_passthrough:alias"] != nil
    }
}
