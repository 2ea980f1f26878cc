internal import Model

/// What follows when a guest is seen in a power state that its record does not have. Nova's table, less what it would
/// do to a guest by force: the agent tells what it sees and leaves guests alone. So a guest that somebody at the host
/// started, or let go on, is active.
struct PowerRule: Sendable, Hashable {
    /// The record's new state; `nil` leaves it.
    let vmState: VMState?
    let powerState: PowerState
    /// Whether there is anything to tell.
    let isNews: Bool

    /// `seen` is `nil` for a guest that the hypervisor does not have.
    init(vmState: VMState, known: PowerState, seen: PowerState?) {
        powerState = seen ?? .noState
        switch (vmState, seen) {
        case (.active, .shutdown), (.active, .crashed), (.paused, .shutdown), (.paused, .crashed):
            self.vmState = .stopped
        case (.stopped, .running), (.paused, .running), (.suspended, .running):
            self.vmState = .active
        default:
            self.vmState = nil
        }
        isNews = self.vmState != nil || powerState != known
    }
}
