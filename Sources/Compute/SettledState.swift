internal import Model
internal import RPC

/// What the journal says of a guest once a command on it has ended: what the command promised, or what is seen.
struct SettledState: Sendable, Hashable {
    let vmState: VMState

    /// - Parameters:
    ///   - powerState: what is seen now.
    ///   - isRescued: whether the guest is defined with a rescue's disk.
    init(after operation: CommandState, failed: Bool, powerState: PowerState, isRescued: Bool) {
        let (command, from) = (operation.command, operation.vmState)
        if !failed {
            vmState = Self.succeeded(command, from, isRescued)
        } else if operation.isDismantled == true, powerState != .running {
            vmState = .error
        } else {
            vmState = Self.failed(command, from, powerState, isRescued)
        }
    }

    private static func succeeded(_ command: GuestCommand, _ from: VMState, _ isRescued: Bool) -> VMState {
        switch command {
        case .start, .softReboot, .hardReboot, .unpause, .resume, .unrescue, .restore: isRescued ? .rescued : .active
        case .stop: .stopped
        case .pause: .paused
        case .suspend: .suspended
        case .rescue: .rescued
        case .rebuild: from == .stopped ? .stopped : .active
        case .shelve: .shelved
        case .softDelete: .softDeleted
        case .snapshot, .setPassword, .attachInterface, .detachInterface: from
        }
    }

    private static func failed(
        _ command: GuestCommand, _ from: VMState, _ powerState: PowerState, _ isRescued: Bool
    ) -> VMState {
        switch powerState {
        // Nothing is known, or the guest sleeps by itself.
        case .noState, .suspended: from
        case .running: from == .error ? .error : isRescued ? .rescued : .active
        case .paused:
            switch command {
            case .pause, .unpause, .suspend, .resume: from == .error ? .error : .paused
            // Somebody else's pause, or an I/O error's.
            default: from
            }
        case .shutdown, .crashed: off(command, from)
        }
    }

    private static func off(_ command: GuestCommand, _ from: VMState) -> VMState {
        switch command {
        // What was to bring a guest up and leaves it dead is an error.
        case .softReboot, .hardReboot: .error
        case .start, .unpause, .resume, .rescue, .unrescue, .rebuild, .restore:
            [.active, .paused, .rescued].contains(from) ? .error : from
        case .stop, .pause, .suspend, .snapshot, .shelve, .softDelete, .setPassword, .attachInterface,
            .detachInterface:
            [.active, .paused].contains(from) ? .stopped : from
        }
    }
}
