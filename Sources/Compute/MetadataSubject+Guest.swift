internal import HostTopology
public import Metadata
internal import Model

extension MetadataSubject {
    /// A guest as the agent has it; with what only its config drive may say.
    public init(_ guest: GuestSpecification, _ secrets: ConfigDriveSecrets = ConfigDriveSecrets()) {
        self.init(
            instance: guest.instance, diskBus: guest.image.properties["hw_disk_bus"], interfaces: guest.interfaces,
            dedicatedCPUs: guest.placement?.dedicatedCPUs.sorted ?? [], adminPassword: secrets.adminPassword,
            files: secrets.files)
    }
}
