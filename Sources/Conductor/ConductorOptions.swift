public import Configuration

/// The conductor's options, under Nova's names wherever Nova has the option.
public enum ConductorOptions {
    public static let listen = Option<String>(
        "conductor", "listen", default: "127.0.0.1:8781",
        help: "Address and port of the conductor's RPC service; an IPv6 address stands in brackets, port 0 takes any.")
    public static let advertisedURL = Option<String>(
        "conductor", "advertised_url", default: "",
        help: "URL under which hosts and services reach this conductor; empty: made from `listen`.")
    public static let maxAttempts = Option<Int>(
        "scheduler", "max_attempts", default: 3,
        help: "On how many hosts a build is tried: the chosen one and its alternates.",
        check: { (1...10).contains($0) ? nil : "a number from 1 to 10" })
    public static let buildTimeout = Option<Duration>(
        "DEFAULT", "instance_build_timeout", default: .seconds(3_600),
        help: "A build that takes longer than this ends in ERROR. 0: none does.",
        check: { $0 >= .zero && $0 <= .seconds(3_650 * 86_400) ? nil : "0 s to 10 years" })
    public static let rescueTimeout = Option<Duration>(
        "DEFAULT", "rescue_timeout", default: .zero,
        help: "How long a server may be rescued before it is unrescued. 0: for ever.",
        check: { $0 >= .zero && $0 <= .seconds(3_650 * 86_400) ? nil : "0 s to 10 years" })
    public static let resizeConfirmWindow = Option<Duration>(
        "DEFAULT", "resize_confirm_window", default: .zero,
        help: "How long a resize or a migration waits to be confirmed before that happens by itself. 0: for ever.",
        check: { $0 >= .zero && $0 <= .seconds(3_650 * 86_400) ? nil : "0 s to 10 years" })
    public static let rebootTimeout = Option<Duration>(
        "DEFAULT", "reboot_timeout", default: .zero,
        help:
            "How long a guest that was asked to reboot may take before its plug is pulled. 0: as long as its host waits.",
        check: { $0 >= .zero && $0 <= .seconds(3_650 * 86_400) ? nil : "0 s to 10 years" })
    public static let usageAudit = Option<Bool>(
        "DEFAULT", "instance_usage_audit", default: false,
        help: "Whether the usage of instances is told, by instance.exists, after each instance_usage_audit_period.")
    public static let incompleteMigrationInterval = Option<Duration>(
        "DEFAULT", "instance_delete_interval", default: .seconds(300),
        help:
            "Time between looks for migrations in error whose server is deleted, to remove what they left. Negative: none.",
        check: { isInterval($0) })
    public static let shelvedPollInterval = Option<Duration>(
        "DEFAULT", "shelved_poll_interval", default: .seconds(60),
        help: "Time between looks for servers that have been shelved for long enough. Negative: none.",
        check: { isInterval($0) })
    public static let lapsedPollInterval = Option<Duration>(
        "conductor", "lapsed_poll_interval", default: .seconds(10),
        help: "Time between looks for servers that were deleted softly, or rescued, long enough ago. Negative: none.",
        check: { isInterval($0) })
    public static let schedulerURLs = Option<[String]>(
        "conductor", "scheduler_urls", default: ["http://127.0.0.1:8782"],
        help: "URLs of the schedulers, tried in order.")
    public static let imageURL = Option<String>(
        "image", "data_url", default: "http://127.0.0.1:8774",
        help: "URL of the API service from which hosts fetch image bytes by ticket.")
    public static let imageTicketLifetime = Option<Duration>(
        "image", "ticket_lifetime", default: .seconds(900),
        help: "How long a host may begin to download an image with one ticket.")
    public static let maxConcurrentBuilds = Option<Int>(
        "conductor", "max_concurrent_tasks", default: 256,
        help: "How many tasks of one kind a conductor carries at once.",
        check: { (1...10_000).contains($0) ? nil : "a number from 1 to 10000" })
    public static let precacheConcurrency = Option<Int>(
        "image_cache", "precache_concurrency", default: 1,
        help: "On how many hosts at once a conductor has images cached before they are needed.",
        check: { (1...10_000).contains($0) ? nil : "a number from 1 to 10000" })

    public static let taskPollInterval = Option<Duration>(
        "conductor", "task_poll_interval", default: .seconds(1),
        help: "Time between looks for tasks that nobody told of. A PostgreSQL server tells of each at once.",
        check: { $0 >= .milliseconds(100) && $0 <= .seconds(60) ? nil : "0.1 s to 60 s" })
    public static let trimInterval = Option<Duration>(
        "conductor", "task_trim_interval", default: .seconds(600),
        help: "Time between looks for ended tasks that may be forgotten; each up to a tenth earlier or later. "
            + "Negative: none.",
        check: { isInterval($0) })
    public static let taskRetention = Option<Duration>(
        "conductor", "task_retention", default: .seconds(86_400),
        help: "How long tasks that have ended are listed.",
        check: { $0 >= .seconds(3_600) && $0 <= .seconds(3_650 * 86_400) ? nil : "1 hour to 10 years" })

    public static let all: [AnyOption] =
        [
            listen.erased, advertisedURL.erased, maxAttempts.erased, buildTimeout.erased,
            schedulerURLs.erased, imageURL.erased, imageTicketLifetime.erased, maxConcurrentBuilds.erased,
            CommonOptions.periodicEnable.erased, rescueTimeout.erased, resizeConfirmWindow.erased,
            shelvedPollInterval.erased, rebootTimeout.erased, usageAudit.erased, incompleteMigrationInterval.erased,
            lapsedPollInterval.erased, trimInterval.erased,
            taskRetention.erased, precacheConcurrency.erased, taskPollInterval.erased,
        ] + NotificationOptions.all
}

/// For looks at the database: every second at most; a year apart at most; 0 is a minute, as everywhere, and less is never.
@Sendable private func isInterval(_ value: Duration) -> String? {
    value <= .zero || (value >= .seconds(1) && value <= .seconds(365 * 86_400))
        ? nil : "1 second to a year, 0 or a negative number"
}
