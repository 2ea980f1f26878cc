/// The stable state the user asked for (Nova's `vm_state`; the text is what clients see).
public enum VMState: String, Sendable, Hashable, Codable, CaseIterable {
    case active, building, paused, suspended, stopped, rescued, resized, deleted, error, shelved
    case softDeleted = "soft-delete"
    case shelvedOffloaded = "shelved_offloaded"
}

/// Work in progress on an instance (Nova's `task_state`); `nil` where nothing is under way.
public enum TaskState: String, Sendable, Hashable, Codable, CaseIterable {
    case scheduling, networking, spawning
    case blockDeviceMapping = "block_device_mapping"
    case imageSnapshotPending = "image_snapshot_pending"
    case imageSnapshot = "image_snapshot"
    case imagePendingUpload = "image_pending_upload"
    case imageUploading = "image_uploading"
    case imageBackup = "image_backup"
    case updatingPassword = "updating_password"
    case resizePrep = "resize_prep"
    case resizeMigrating = "resize_migrating"
    case resizeMigrated = "resize_migrated"
    case resizeFinish = "resize_finish"
    case resizeReverting = "resize_reverting"
    case resizeConfirming = "resize_confirming"
    case rebooting
    case rebootPending = "reboot_pending"
    case rebootStarted = "reboot_started"
    case rebootingHard = "rebooting_hard"
    case rebootPendingHard = "reboot_pending_hard"
    case rebootStartedHard = "reboot_started_hard"
    case pausing, unpausing, suspending, resuming
    case poweringOff = "powering-off"
    case poweringOn = "powering-on"
    case rescuing, unrescuing, rebuilding
    case rebuildBlockDeviceMapping = "rebuild_block_device_mapping"
    case rebuildSpawning = "rebuild_spawning"
    case migrating, deleting
    case softDeleting = "soft-deleting"
    case restoring, shelving
    case shelvingImagePendingUpload = "shelving_image_pending_upload"
    case shelvingImageUploading = "shelving_image_uploading"
    case shelvingOffloading = "shelving_offloading"
    case unshelving
}

/// The last hypervisor truth that was seen (Nova's `power_state`; the number is what clients see).
public enum PowerState: Int, Sendable, Hashable, Codable, CaseIterable {
    case noState = 0
    case running = 1
    case paused = 3
    case shutdown = 4
    case crashed = 6
    case suspended = 7

    /// Nova's word for it, where a number does not do: in diagnostics and notifications.
    public var name: String {
        switch self {
        case .noState: "pending"
        case .running: "running"
        case .paused: "paused"
        case .shutdown: "shutdown"
        case .crashed: "crashed"
        case .suspended: "suspended"
        }
    }
}

/// What the API shows as `status`, derived from the other two.
public enum ServerStatus: String, Sendable, Hashable, Codable, CaseIterable {
    case active = "ACTIVE"
    case build = "BUILD"
    case deleted = "DELETED"
    case error = "ERROR"
    case hardReboot = "HARD_REBOOT"
    case migrating = "MIGRATING"
    case password = "PASSWORD"
    case paused = "PAUSED"
    case reboot = "REBOOT"
    case rebuild = "REBUILD"
    case rescue = "RESCUE"
    case resize = "RESIZE"
    case revertResize = "REVERT_RESIZE"
    case shelved = "SHELVED"
    case shelvedOffloaded = "SHELVED_OFFLOADED"
    case shutoff = "SHUTOFF"
    case softDeleted = "SOFT_DELETED"
    case suspended = "SUSPENDED"
    case unknown = "UNKNOWN"
    case verifyResize = "VERIFY_RESIZE"

    /// The status of an instance in `vmState` while `taskState` is under way.
    public init(_ vmState: VMState, _ taskState: TaskState?) {
        switch (vmState, taskState) {
        case (.active, .rebooting), (.active, .rebootPending), (.active, .rebootStarted): self = .reboot
        case (.active, .rebootingHard), (.active, .rebootPendingHard), (.active, .rebootStartedHard):
            self = .hardReboot
        case (.active, .updatingPassword): self = .password
        case (.active, .migrating), (.paused, .migrating): self = .migrating
        case (.active, .rebuilding), (.active, .rebuildBlockDeviceMapping), (.active, .rebuildSpawning),
            (.stopped, .rebuilding), (.stopped, .rebuildBlockDeviceMapping), (.stopped, .rebuildSpawning),
            (.error, .rebuilding), (.error, .rebuildBlockDeviceMapping), (.error, .rebuildSpawning):
            self = .rebuild
        case (.active, .resizePrep), (.active, .resizeMigrating), (.active, .resizeMigrated), (.active, .resizeFinish),
            (.stopped, .resizePrep), (.stopped, .resizeMigrating), (.stopped, .resizeMigrated),
            (.stopped, .resizeFinish):
            self = .resize
        case (.resized, .resizeReverting): self = .revertResize
        case (.active, _): self = .active
        case (.building, _): self = .build
        case (.stopped, _): self = .shutoff
        case (.resized, _): self = .verifyResize
        case (.paused, _): self = .paused
        case (.suspended, _): self = .suspended
        case (.rescued, _): self = .rescue
        case (.deleted, _): self = .deleted
        case (.softDeleted, _): self = .softDeleted
        case (.error, _): self = .error
        case (.shelved, _): self = .shelved
        case (.shelvedOffloaded, _): self = .shelvedOffloaded
        }
    }
}
