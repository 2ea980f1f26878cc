/// What a user can ask of an instance. The raw value is Nova's name in the list of instance actions.
public enum InstanceActionKind: String, Sendable, Hashable, Codable, CaseIterable {
    case create, delete, start, stop, reboot
}

/// How to reboot: ask the guest, or reset it.
public enum RebootType: String, Sendable, Hashable, Codable {
    case soft = "SOFT"
    case hard = "HARD"
}

/// One request against an instance's state: the argument of the one transition table.
public enum InstanceRequest: Sendable, Hashable {
    case delete
    case start
    case stop
    case reboot(RebootType)

    /// The name in refusals: "Cannot 'start' instance …".
    public var name: String {
        switch self {
        case .delete: "delete"
        case .start: "start"
        case .stop: "stop"
        case .reboot: "reboot"
        }
    }

    public var action: InstanceActionKind {
        switch self {
        case .delete: .delete
        case .start: .start
        case .stop: .stop
        case .reboot: .reboot
        }
    }

    /// What follows when the request meets (`vmState`, `taskState`): the task state to set, or the refusal.
    /// The one table that API, conductor and agent all ask; rules from Nova's compute API.
    public func admitted(vmState: VMState, taskState: TaskState?) throws(InvalidState) -> TaskState {
        switch self {
        case .delete:
            return .deleting
        case .start:
            try require([.stopped], vmState, taskState)
            return .poweringOn
        case .stop:
            try require([.active, .error], vmState, taskState)
            return .poweringOff
        case .reboot(.soft):
            try require([.active], vmState, taskState)
            return .rebooting
        case .reboot(.hard):
            let interruptible: Set<TaskState> = [
                .rebooting, .rebootPending, .rebootStarted, .resuming, .rebootingHard, .unpausing, .pausing,
                .suspending,
            ]
            try require(
                [.active, .stopped, .paused, .suspended, .error], vmState,
                taskState.flatMap { interruptible.contains($0) ? nil : $0 })
            return .rebootingHard
        }
    }

    private func require(_ allowed: Set<VMState>, _ vmState: VMState, _ taskState: TaskState?) throws(InvalidState) {
        guard allowed.contains(vmState) else { throw InvalidState(request: name, vmState: vmState, taskState: nil) }
        guard taskState == nil else { throw InvalidState(request: name, vmState: vmState, taskState: taskState) }
    }
}

/// A request that the instance's state does not admit; answered 409.
public struct InvalidState: Error, Sendable, Hashable {
    public let request: String
    public let vmState: VMState
    /// Set when the task state, not the vm state, is in the way.
    public let taskState: TaskState?

    public init(request: String, vmState: VMState, taskState: TaskState?) {
        (self.request, self.vmState, self.taskState) = (request, vmState, taskState)
    }

    /// Nova's sentence for the answer.
    public func message(for instance: InstanceID) -> String {
        guard let taskState else {
            return "Cannot '\(request)' instance \(instance) while it is in vm_state \(vmState.rawValue)"
        }
        return "Cannot '\(request)' instance \(instance) while it is in task_state \(taskState.rawValue)"
    }
}
