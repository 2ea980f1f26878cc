internal import Configuration
internal import Model
internal import PCIDevices

/// Which of the host's devices guests may have, and by what names.
struct DeviceSettings: Sendable {
    let specs: [DeviceSpec]
    let aliases: [PCIAlias]

    /// Both have been checked when the configuration was read.
    init(_ configuration: Configuration) throws(Failure) {
        do {
            specs = try DeviceSpec.list(parsing: configuration[ComputeOptions.deviceSpec])
            aliases = try PCIAlias.list(parsing: configuration[ComputeOptions.pciAlias])
        } catch {
            throw Failure(.invalidParameters, "[pci]: \(error)")
        }
    }

    /// The devices that guests may have. The host is not asked where none is configured.
    func devices(of driver: any VirtDriver) async throws -> [PCIDevice] {
        guard !specs.isEmpty else { return [] }
        return try await driver.hostDevices().filter { device in specs.contains { $0.matches(device) } }
    }
}
