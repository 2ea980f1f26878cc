internal import Model
internal import RPC

/// What a host's part in a move keeps between its steps.
struct MoveState: OperationState {
    var instanceID: InstanceID
    var migration: MigrationID
    /// Without its ticket once the disks are there.
    var order: MoveOrder
    /// What the guest is, or was, on this host: of a take-over what it is to be, else what it was.
    var specification: GuestSpecification
    /// `active` or `stopped`: how it is to be afterwards.
    var vmState: VMState
    /// Whether the instance comes from this very host, to another size.
    var isSameHost: Bool
    /// Whether the guest that is here has nothing to do with the migration: then only the room that it reserved is given
    /// back.
    var isForeign = false
    /// Whether the guest has been set aside here.
    var isSetAside = false
    /// Whether the guest was sent and is nowhere here, although the sending failed, as far as its last word goes.
    var hasLeft: Bool?
    var launchedAt: Timestamp?
    var timings: [ReportOperation.StepTiming] = []
    /// What a removal could not do, in order; what does not depend on it was tried all the same.
    var problems: [Failure] = []

    init(_ params: MoveGuest.Params, _ specification: GuestSpecification) {
        instanceID = params.instance.id
        (migration, order, vmState) = (params.migration, params.order, params.vmState)
        (self.specification, isSameHost) = (specification, params.isSameHost)
        self.specification.instance.userData = nil
    }

    mutating func forgetSpentSecrets() {
        // Whether the guest has come there only its destination may know, and tells it to the ticket alone.
        if case .send = order { return }
        forgetSecrets()
    }

    mutating func forgetSecrets() {
        switch order {
        case .takeOver(let image, var source):
            source.ticket = ""
            order = .takeOver(image, from: source)
        case .receive(let image, var source, let request):
            source.ticket = ""
            order = .receive(image, from: source, request)
        case .send(var destination, let request):
            destination.ticket = ""
            order = .send(to: destination, request)
        case .reserve, .setAside, .release, .forget, .takeBack, .offer, .arrive, .leave: break
        }
    }
}
