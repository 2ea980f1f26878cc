internal import Configuration
internal import Model
internal import PCIDevices

/// Which of the host's devices guests may have, and by what names; and which they may have shares of.
struct DeviceSettings: Sendable {
    let specs: [DeviceSpec]
    let aliases: [PCIAlias]
    let mediatedTypes: MediatedDeviceTypes

    /// Each has been checked when the configuration was read, but not what two of them say together.
    init(_ configuration: Configuration) throws(Failure) {
        do {
            specs = try DeviceSpec.list(parsing: configuration[ComputeOptions.deviceSpec])
            aliases = try PCIAlias.list(parsing: configuration[ComputeOptions.pciAlias])
        } catch {
            throw Failure(.invalidParameters, "[pci]: \(error)")
        }
        do {
            mediatedTypes = try MediatedDeviceTypes(
                enabled: configuration[ComputeOptions.enabledMediatedTypes],
                addresses: configuration[ComputeOptions.mediatedTypeAddresses])
        } catch {
            throw Failure(.invalidParameters, "[devices]: \(error)")
        }
    }

    /// The devices that guests may have. The host is not asked where none is configured.
    func devices(of driver: any VirtDriver) async throws -> [PCIDevice] {
        guard !specs.isEmpty else { return [] }
        return try await driver.hostDevices().filter { device in specs.contains { $0.matches(device) } }
    }

    /// What the host's devices can be shared into. The host is not asked where no type is enabled.
    func mediatedDevices(of driver: any VirtDriver) async throws -> MediatedDeviceInventory {
        guard !mediatedTypes.enabled.isEmpty else { return MediatedDeviceInventory() }
        return MediatedDeviceInventory(
            try await driver.mediatedDeviceParents().compactMap { mediatedTypes.supply(of: $0) })
    }
}
