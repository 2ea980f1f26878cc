public import Configuration

/// Options of live migrations, under Nova's names where Nova has them.
public enum LiveOptions {
    /// What becomes of a migration that takes too long.
    public enum TimeoutAction: String, Sendable, CaseIterable, ChoiceOption {
        case abort
        case forceComplete = "force_complete"
    }

    /// What an emulated guest does while its memory is carried.
    public enum EmulatedGuests: String, Sendable, CaseIterable, ChoiceOption {
        case halt
        case run
    }

    public static let folder = Option(
        "libvirt", "live_migration_folder", default: "/run/libvirt/apus-live",
        help:
            "Where the sockets of live migrations are, each migration in a folder of its own while it lasts: the same on "
            + "every host.",
        check: { $0.hasPrefix("/") && $0.utf8.count <= 40 ? nil : "an absolute path of at most 40 bytes" })
    public static let bandwidth = Option(
        "libvirt", "live_migration_bandwidth", default: 0, help: "MiB a second of one migration at most. 0: no limit.",
        check: { (0...1_000_000).contains($0) ? nil : "0 to 1000000" })
    public static let downtime = Option(
        "libvirt", "live_migration_downtime", default: 500,
        help: "Milliseconds that a guest may stand still at the end of its migration, when it comes to that.",
        check: { (100...60_000).contains($0) ? nil : "100 to 60000" })
    public static let downtimeSteps = Option(
        "libvirt", "live_migration_downtime_steps", default: 10,
        help: "In how many steps a migration that does not come to its end is given more standstill.",
        check: { (3...1_000).contains($0) ? nil : "3 to 1000" })
    public static let downtimeDelay = Option(
        "libvirt", "live_migration_downtime_delay", default: Duration.seconds(75),
        help: "Time between two of those steps, for each GiB of the guest.",
        check: { $0 >= .seconds(3) && $0 <= .seconds(86_400) ? nil : "3 to 86400 s" })
    public static let completionTimeout = Option(
        "libvirt", "live_migration_completion_timeout", default: Duration.seconds(800),
        help: "How long a migration may take, for each GiB of the guest, 2 at least. 0: as long as it takes.",
        check: { $0 >= .zero && $0 <= .seconds(86_400) ? nil : "0 to 86400 s" })
    public static let timeoutAction = Option<TimeoutAction>(
        "libvirt", "live_migration_timeout_action", default: .abort,
        help:
            "What is done then: abort, or force_complete (by post-copy where that is permitted, else the guest is halted)."
    )
    public static let permitsPostCopy = Option(
        "libvirt", "live_migration_permit_post_copy", default: false,
        help:
            "Whether a migration that is forced, or does not come to its end, may let the guest go on at the destination "
            + "before all of its memory is there. A host or wire that fails then takes the guest with it.")
    public static let permitsAutoConverge = Option(
        "libvirt", "live_migration_permit_auto_converge", default: false,
        help: "Whether a guest that changes its memory faster than it can be sent is slowed down; not with post-copy.")
    public static let compresses = Option(
        "libvirt", "live_migration_compressed", default: false,
        help:
            "Whether pages that are sent again are sent as what has changed in them (xbzrle), which costs processor time."
    )
    public static let hasNativeTLS = Option(
        "libvirt", "live_migration_with_native_tls", default: false,
        help:
            "Whether the hypervisors themselves talk by TLS, too, inside the agents' own. Every host then has certificates "
            + "in libvirt's migrate_tls_x509_cert_dir, whose name is the host's. For guests on shared disks: libvirt does not "
            + "copy disks so.")
    public static let emulatedGuests = Option<EmulatedGuests>(
        "libvirt", "live_migration_emulated_guests", default: .halt,
        help:
            "What an emulated guest (virt_type = qemu) does while its memory is carried by a QEMU before 9.0, which misses "
            + "some of what such a guest writes meanwhile, so that it may crash when it arrives: halt, or run all the same. "
            + "Guests of KVM run.")

    /// All of them, for `Configuration.load`.
    public static let all: [AnyOption] = [
        folder.erased, bandwidth.erased, downtime.erased, downtimeSteps.erased, downtimeDelay.erased,
        completionTimeout.erased, timeoutAction.erased, permitsPostCopy.erased, permitsAutoConverge.erased,
        compresses.erased, hasNativeTLS.erased, emulatedGuests.erased,
    ]
}
