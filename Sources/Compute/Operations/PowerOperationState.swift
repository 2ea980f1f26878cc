internal import Model
internal import RPC

/// What a change of power keeps between its steps.
struct PowerOperationState: OperationState {
    var instanceID: InstanceID
    var timings: [ReportOperation.StepTiming] = []
}
