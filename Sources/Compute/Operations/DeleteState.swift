internal import Model
internal import RPC

/// What a removal keeps between its steps.
struct DeleteState: OperationState {
    var instanceID: InstanceID
    var timings: [ReportOperation.StepTiming] = []
    /// What failed, in order; the steps that do not depend on it were tried all the same.
    var problems: [Failure] = []
}
