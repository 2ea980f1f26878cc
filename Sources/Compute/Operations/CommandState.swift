internal import Crypto
internal import Model
internal import RPC

/// What an operation on a guest that is there keeps between its steps.
struct CommandState: OperationState {
    var instanceID: InstanceID
    /// Without its secrets once they are used.
    var command: GuestCommand
    /// The record as of the command; with the user data until the config drive is written.
    var instance: Instance
    /// What the journal said of the guest when the command was taken.
    var vmState: VMState
    var timings: [ReportOperation.StepTiming] = []
    /// The name under which the operation asks for what it must not get twice.
    var key: String?
    /// The NIC that is being added or removed.
    var interface: NetworkInterface?
    /// What the guest was has been taken away: a failure leaves nothing to go back to.
    var isDismantled: Bool?
    /// The copy of the root disk, once it is there.
    var snapshot: SnapshotFile?

    /// The image that the guest was being rescued with when the command was taken.
    var rescueImage: ImageReference?

    /// - Parameter guest: the record when the command was taken.
    init(_ command: GuestCommand, _ instance: Instance, on guest: GuestRecord) {
        instanceID = instance.id
        (self.command, self.instance, vmState) = (command, instance, guest.vmState)
        rescueImage = guest.specification.rescueImage
        key = makeUUID()
    }

    mutating func forgetSecrets() {
        command = command.withoutSecrets
        instance.userData = nil
    }

    /// What the guest's disks are to be made of; `nil` for a command that makes none.
    var material: GuestMaterial? {
        switch command {
        case .rescue(let material), .rebuild(let material): material
        default: nil
        }
    }

    /// What the guest is to be once the command is carried out, apart from its NICs.
    func changed(_ specification: GuestSpecification) -> GuestSpecification {
        var specification = specification
        switch command {
        case .rescue(let material): specification.rescueImage = material.image
        case .unrescue: specification.rescueImage = nil
        case .rebuild(let material):
            specification.image = material.image
            specification.rescueImage = nil
        default: break
        }
        return specification
    }
}
