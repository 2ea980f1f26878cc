internal import HostTopology
internal import Model
internal import RPC

/// What a build keeps between its steps.
struct BuildState: OperationState {
    /// Without its user data once the config drive is written.
    var instance: Instance
    var image: ImageReference
    /// `nil` once the config drive is written.
    var adminPassword: String?
    /// Likewise.
    var files: [InjectedFile]?
    var interfaces: [NetworkInterface]?
    var launchedAt: Timestamp?
    /// Where the claim has put it on the host's cells; read before the domain is defined.
    var placement: TopologyPlacement?
    /// The devices that its claim has; likewise.
    var devices: [PCIDevice]?
    /// Likewise its shares of devices.
    var mediatedDevices: [MediatedDevice]?
    var timings: [ReportOperation.StepTiming] = []

    var instanceID: InstanceID { instance.id }

    var specification: GuestSpecification {
        var guest = GuestSpecification(instance: instance, image: image, interfaces: interfaces ?? [])
        (guest.placement, guest.devices, guest.mediatedDevices) = (placement, devices, mediatedDevices)
        return guest
    }

    /// Drops what no record may hold after the step that used it.
    mutating func forgetSecrets() {
        adminPassword = nil
        files = nil
        instance.userData = nil
    }
}
