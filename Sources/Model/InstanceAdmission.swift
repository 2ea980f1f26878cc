/// What a request asks of the instance before anything changes: one row of the transition table.
///
/// Rules from Nova's compute API, where every place that it leaks a lost race as 500 is a 409 here.
public struct InstanceAdmission: Sendable, Hashable {
    /// Which work in progress the request bears.
    public enum TaskRule: Sendable, Hashable {
        case none
        /// None, or one of these, which the request overtakes.
        case noneOr(Set<TaskState>)
        /// Whatever is under way.
        case any
        /// Whatever is under way but these.
        case notDuring(Set<TaskState>)
        /// This, and nothing else, is under way.
        case only(TaskState)
    }

    /// `nil` for every state.
    public let vmStates: Set<VMState>?
    public let tasks: TaskRule
    /// Whether a locked instance refuses it to those who are not administrators.
    public let respectsLock: Bool
    /// Whether the guest must be, or have been, on a host.
    public let needsHost: Bool
    /// Whether the instance must have been active once.
    public let needsLaunched: Bool
    /// What is under way once the request is accepted; `nil` when it changes the record at once.
    public let taskState: TaskState?

    private init(
        _ vmStates: Set<VMState>?, tasks: TaskRule = .none, respectsLock: Bool = true, needsHost: Bool = true,
        needsLaunched: Bool = true, _ taskState: TaskState?
    ) {
        (self.vmStates, self.tasks, self.respectsLock) = (vmStates, tasks, respectsLock)
        (self.needsHost, self.needsLaunched, self.taskState) = (needsHost, needsLaunched, taskState)
    }

    /// The table's row for `request`.
    public init(_ request: InstanceRequest) {
        switch request {
        case .delete, .forceDelete:
            self.init(nil, tasks: .any, needsHost: false, needsLaunched: false, .deleting)
        case .softDelete:
            // What was never active is deleted for good; the caller asks for that instead.
            self.init(
                nil,
                // A move that has just begun, or is being decided, would be broken off with rooms on two hosts.
                tasks: .notDuring([.deleting, .softDeleting, .resizePrep, .resizeConfirming]), needsHost: false,
                needsLaunched: true,
                .softDeleting)
        case .restore: self.init([.softDeleted], needsHost: false, .restoring)
        case .start: self.init([.stopped], .poweringOn)
        case .stop: self.init([.active, .error], .poweringOff)
        case .reboot(.soft): self.init([.active], .rebooting)
        case .reboot(.hard):
            self.init(
                [.active, .stopped, .paused, .suspended, .error],
                tasks: .noneOr([
                    .rebooting, .rebootPending, .rebootStarted, .resuming, .rebootingHard, .unpausing, .pausing,
                    .suspending,
                ]), .rebootingHard)
        case .pause: self.init([.active], .pausing)
        case .unpause: self.init([.paused], .unpausing)
        case .suspend: self.init([.active], .suspending)
        case .resume: self.init([.suspended], .resuming)
        case .rescue: self.init([.active, .stopped, .error], .rescuing)
        case .unrescue: self.init([.rescued], .unrescuing)
        case .rebuild: self.init([.active, .stopped, .error], .rebuilding)
        case .shelve: self.init([.active, .stopped, .paused, .suspended], .shelving)
        case .shelveOffload: self.init([.shelved], .shelvingOffloading)
        case .unshelve: self.init([.shelved, .shelvedOffloaded], needsHost: false, .unshelving)
        case .lock, .unlock:
            self.init(nil, tasks: .any, respectsLock: false, needsHost: false, needsLaunched: false, nil)
        case .createImage:
            self.init([.active, .stopped, .paused, .suspended], respectsLock: false, .imageSnapshotPending)
        case .createBackup:
            self.init([.active, .stopped, .paused, .suspended], respectsLock: false, .imageBackup)
        case .changePassword: self.init([.active], .updatingPassword)
        // Nova sets no task state here and leans on a lock in the host's process. Here one shows, so that of two
        // clashing requests one is refused.
        case .attachInterface, .detachInterface: self.init([.active, .paused, .stopped], .networking)
        case .triggerCrashDump: self.init([.active, .paused, .rescued, .resized, .error], nil)
        case .resetState:
            self.init(nil, tasks: .any, respectsLock: false, needsHost: false, needsLaunched: false, nil)
        case .resize, .migrate: self.init([.active, .stopped], .resizePrep)
        case .confirmResize: self.init([.resized], .resizeConfirming)
        // In ERROR, too: its source may not have had it again at the first try.
        case .revertResize: self.init([.resized, .error], .resizeReverting)
        case .liveMigrate: self.init([.active, .paused], .migrating)
        case .abortLiveMigration:
            self.init(nil, tasks: .only(.migrating), needsHost: false, needsLaunched: false, nil)
        case .forceLiveMigration:
            self.init([.active, .paused], tasks: .only(.migrating), needsHost: false, needsLaunched: false, nil)
        // Whatever its host was at is over. What is being deleted stays so: an evacuation would bring it back.
        case .evacuate:
            self.init(
                [.active, .stopped, .error], tasks: .notDuring([.deleting, .softDeleting]), respectsLock: false,
                .rebuilding)
        case .changeMetadata:
            self.init(
                [.active, .paused, .suspended, .stopped], tasks: .any, needsHost: false, needsLaunched: false, nil)
        case .changeTags:
            self.init(
                [.active, .paused, .suspended, .stopped], tasks: .any, respectsLock: false, needsHost: false,
                needsLaunched: false, nil)
        case .consoleOutput, .diagnostics:
            self.init(nil, tasks: .any, respectsLock: false, needsLaunched: false, nil)
        case .remoteConsole:
            self.init(
                nil, tasks: .notDuring([.deleting, .migrating]), respectsLock: false, needsLaunched: false, nil)
        }
    }
}

extension InstanceRequest {
    /// What follows when the request meets the instance: the task state to set (`nil` where nothing is under way by
    /// it), or the refusal. The one table that API, conductor and agent all ask.
    ///
    /// - Parameter isAdmin: whether the caller may pass a lock.
    public func admitted(to instance: Instance, isAdmin: Bool) throws(InvalidState) -> TaskState? {
        let row = InstanceAdmission(self)
        func refuse(_ obstacle: InvalidState.Obstacle) -> InvalidState { InvalidState(request: name, obstacle) }
        if row.respectsLock, instance.lock != nil, !isAdmin { throw refuse(.locked) }
        if let allowed = row.vmStates, !allowed.contains(instance.vmState) { throw refuse(.vmState(instance.vmState)) }
        if let taskState = instance.taskState, !row.tasks.bears(taskState) { throw refuse(.taskState(taskState)) }
        if case .only = row.tasks, instance.taskState == nil { throw refuse(.nothingUnderWay) }
        if row.needsLaunched, instance.launchedAt == nil { throw refuse(.notLaunched) }
        if row.needsHost, instance.host == nil { throw refuse(.noHost) }
        return row.taskState
    }
}

extension InstanceAdmission.TaskRule {
    fileprivate func bears(_ taskState: TaskState) -> Bool {
        switch self {
        case .none: false
        case .noneOr(let overtaken): overtaken.contains(taskState)
        case .any: true
        case .notDuring(let excluded): !excluded.contains(taskState)
        case .only(let wanted): taskState == wanted
        }
    }
}

/// A request that the instance does not admit as it is; answered 409.
public struct InvalidState: Error, Sendable, Hashable {
    public enum Obstacle: Sendable, Hashable {
        case vmState(VMState)
        case taskState(TaskState)
        /// It is about what is under way, and nothing is.
        case nothingUnderWay
        case locked
        /// It is on no host.
        case noHost
        case notLaunched
    }

    public let request: String
    public let obstacle: Obstacle

    public init(request: String, _ obstacle: Obstacle) { (self.request, self.obstacle) = (request, obstacle) }

    /// Nova's sentence for the answer.
    public func message(for instance: InstanceID) -> String {
        switch obstacle {
        case .vmState(let state):
            "Cannot '\(request)' instance \(instance) while it is in vm_state \(state.rawValue)"
        case .taskState(let state):
            "Cannot '\(request)' instance \(instance) while it is in task_state \(state.rawValue)"
        case .nothingUnderWay: "Cannot '\(request)' instance \(instance) while it is in task_state None"
        case .locked: "Instance \(instance) is locked"
        case .noHost: "Instance \(instance) is not ready"
        case .notLaunched: "Cannot '\(request)' instance \(instance): it has never been active"
        }
    }
}
