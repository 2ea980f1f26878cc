internal import Model
internal import RPC

/// What the taking in of a guest whose host is dead keeps between its steps.
struct TakeInState: OperationState {
    var instanceID: InstanceID
    var migration: MigrationID
    /// What the guest is to be here; with the user data until the config drive is written.
    var specification: GuestSpecification
    /// Until the config drive is written.
    var adminPassword: String?
    /// `active` or `stopped`: how it is to be afterwards.
    var vmState: VMState
    /// What the caller says of the disks; `nil` for one that says nothing.
    var isSaidToShare: Bool?
    /// Whether the disks are here that it had on its former host; `nil` before this host has looked. Looked at once: disks
    /// that it makes itself are no such disks.
    var sharesDisks: Bool?
    var launchedAt: Timestamp?
    var timings: [ReportOperation.StepTiming] = []

    init(_ params: TakeInGuest.Params, _ specification: GuestSpecification) {
        instanceID = params.instance.id
        (migration, self.specification, vmState) = (params.migration, specification, params.vmState)
        (adminPassword, isSaidToShare) = (params.adminPassword, params.sharesDisks)
    }

    mutating func forgetSecrets() { (adminPassword, specification.instance.userData) = (nil, nil) }
}

/// What the end of a stale guest keeps between its steps.
struct DiscardState: OperationState {
    var instanceID: InstanceID
    /// The evacuation's generation: no older command counts afterwards.
    var generation: Int64
    /// Whether the instance is elsewhere. Where not, its guest is only turned off until that is decided.
    var isDecided: Bool
    /// Whether the disks that are here are the new guest's, too; `nil` where nobody knows.
    var sharesDisks: Bool?
    var timings: [ReportOperation.StepTiming] = []

    init(_ evacuated: ListEvacuated.Evacuated) {
        (instanceID, generation) = (evacuated.instance, evacuated.generation)
        (isDecided, sharesDisks) = (evacuated.isGone, evacuated.sharesDisks)
    }
}
