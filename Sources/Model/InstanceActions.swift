/// What a user can ask of an instance. The raw value is Nova's name in the list of instance actions.
public enum InstanceActionKind: String, Sendable, Hashable, Codable, CaseIterable {
    case create, delete, start, stop, reboot, pause, unpause, suspend, resume, rescue, unrescue, rebuild
    case shelve, shelveOffload, unshelve, lock, unlock, restore, createImage, createBackup, changePassword
    case resetState
    case resize, migrate, confirmResize, revertResize, evacuate
    case liveMigration = "live-migration"
    case abortLiveMigration = "live_migration_cancel"
    case forceLiveMigration = "live_migration_force_complete"
    case attachInterface = "attach_interface"
    case detachInterface = "detach_interface"
    case triggerCrashDump = "trigger_crash_dump"
}

/// How to reboot: ask the guest, or reset it.
public enum RebootType: String, Sendable, Hashable, Codable {
    case soft = "SOFT"
    case hard = "HARD"
}

/// One request against an instance's state: the argument of the one transition table.
public enum InstanceRequest: Sendable, Hashable, CaseIterable {
    case delete
    /// A delete that can be taken back until the reclaim interval is over.
    case softDelete
    /// A delete at once, also of what is softly deleted.
    case forceDelete
    case restore
    case start
    case stop
    case reboot(RebootType)
    case pause
    case unpause
    case suspend
    case resume
    case rescue
    case unrescue
    case rebuild
    case shelve
    case shelveOffload
    case unshelve
    case lock
    case unlock
    case createImage
    case createBackup
    case changePassword
    case attachInterface
    case detachInterface
    case triggerCrashDump
    case resetState
    /// To another flavor.
    case resize
    /// Off, to another host.
    case migrate
    case confirmResize
    case revertResize
    /// To another host while it runs.
    case liveMigrate
    /// Ends a live migration that is under way, with the guest where it was.
    case abortLiveMigration
    /// Ends one soon, with the guest at its destination.
    case forceLiveMigration
    /// To another host, because its own is dead.
    case evacuate
    /// Set, change or delete metadata items.
    case changeMetadata
    /// Set or delete tags.
    case changeTags
    case consoleOutput
    case remoteConsole
    case diagnostics

    public static let allCases: [InstanceRequest] = [
        .delete, .softDelete, .forceDelete, .restore, .start, .stop, .reboot(.soft), .reboot(.hard), .pause, .unpause,
        .suspend, .resume, .rescue, .unrescue, .rebuild, .shelve, .shelveOffload, .unshelve, .lock, .unlock,
        .createImage, .createBackup, .changePassword, .attachInterface, .detachInterface, .triggerCrashDump,
        .resetState, .resize, .migrate, .confirmResize, .revertResize, .liveMigrate, .abortLiveMigration,
        .forceLiveMigration, .evacuate, .changeMetadata, .changeTags, .consoleOutput, .remoteConsole, .diagnostics,
    ]

    /// The name in refusals: "Cannot 'start' instance …".
    public var name: String {
        switch self {
        case .delete: "delete"
        case .softDelete: "soft_delete"
        case .forceDelete: "force_delete"
        case .restore: "restore"
        case .start: "start"
        case .stop: "stop"
        case .reboot: "reboot"
        case .pause: "pause"
        case .unpause: "unpause"
        case .suspend: "suspend"
        case .resume: "resume"
        case .rescue: "rescue"
        case .unrescue: "unrescue"
        case .rebuild: "rebuild"
        case .shelve: "shelve"
        case .shelveOffload: "shelve_offload"
        case .unshelve: "unshelve"
        case .lock: "lock"
        case .unlock: "unlock"
        case .createImage: "snapshot"
        case .createBackup: "backup"
        case .changePassword: "set_admin_password"
        case .attachInterface: "attach_interface"
        case .detachInterface: "detach_interface"
        case .triggerCrashDump: "trigger_crash_dump"
        case .resetState: "reset_state"
        case .resize: "resize"
        case .migrate: "migrate"
        case .confirmResize: "confirmResize"
        case .revertResize: "revertResize"
        case .liveMigrate: "os-migrateLive"
        case .abortLiveMigration: "abort live migration"
        case .forceLiveMigration: "force_complete"
        case .evacuate: "evacuate"
        case .changeMetadata: "update_instance_metadata"
        case .changeTags: "update_tags"
        case .consoleOutput: "get_console_output"
        case .remoteConsole: "get_console"
        case .diagnostics: "get_diagnostics"
        }
    }

    /// What the list of instance actions shows; `nil` for requests that leave no action behind.
    public var action: InstanceActionKind? {
        switch self {
        case .delete, .softDelete, .forceDelete: .delete
        case .restore: .restore
        case .start: .start
        case .stop: .stop
        case .reboot: .reboot
        case .pause: .pause
        case .unpause: .unpause
        case .suspend: .suspend
        case .resume: .resume
        case .rescue: .rescue
        case .unrescue: .unrescue
        case .rebuild: .rebuild
        case .shelve: .shelve
        case .shelveOffload: .shelveOffload
        case .unshelve: .unshelve
        case .lock: .lock
        case .unlock: .unlock
        case .createImage: .createImage
        case .createBackup: .createBackup
        case .changePassword: .changePassword
        case .attachInterface: .attachInterface
        case .detachInterface: .detachInterface
        case .triggerCrashDump: .triggerCrashDump
        case .resetState: .resetState
        case .resize: .resize
        case .migrate: .migrate
        case .confirmResize: .confirmResize
        case .revertResize: .revertResize
        case .liveMigrate: .liveMigration
        case .abortLiveMigration: .abortLiveMigration
        case .forceLiveMigration: .forceLiveMigration
        case .evacuate: .evacuate
        case .changeMetadata, .changeTags, .consoleOutput, .remoteConsole, .diagnostics: nil
        }
    }
}
