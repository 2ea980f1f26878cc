public import Configuration
public import Model

/// Where the control plane's database is.
public enum DatabaseOptions {
    public static let connection = Option(
        "database", "connection", default: "sqlite:///$state_path/apus.db",
        help:
            "sqlite:///PATH, where $state_path stands for [DEFAULT] state_path, or postgresql://USER@HOST/DATABASE, where "
            + "?passfile=PATH names a file with the password.",
        check: { text in
            let isKnown = ["sqlite:///", "postgresql://", "postgres://"].contains {
                text.hasPrefix($0) && text.utf8.count > $0.utf8.count
            }
            return isKnown ? nil : "sqlite:///PATH or postgresql://USER@HOST/DATABASE"
        })

    public static let maxPoolSize = Option<Int>(
        "database", "max_pool_size", default: 8,
        help: "Connections that a process has to a PostgreSQL server at most; one more listens for changes.",
        check: { (1...100).contains($0) ? nil : "1 to 100" })

    public static let serviceDownTime = Option<Duration>(
        "DEFAULT", "service_down_time", default: .seconds(25),
        help: "A service whose last heartbeat is older than this is down.",
        check: { $0 >= .milliseconds(500) && $0 <= .seconds(86_400) ? nil : "0.5 s to 86400 s" })

    public static let reclaimInterval = Option<Duration>(
        "DEFAULT", "reclaim_instance_interval", default: .zero,
        help: "How long a deleted server can be restored; 0: it is deleted at once.",
        check: { $0 >= .zero ? nil : "0 or more" })

    public static let shelvedOffloadTime = Option<Int>(
        "DEFAULT", "shelved_offload_time", default: 0,
        help: "Seconds after which a shelved server is taken from its host; 0: at once, -1: never.",
        check: { $0 >= -1 ? nil : "-1 or more" })

    public static let usageAuditPeriod = Option<String>(
        "DEFAULT", "instance_usage_audit_period", default: "month",
        help:
            "The periods for which the usage of instances is told: hour, day, month or year (UTC), or with where they begin "
            + "hour@MINUTE, day@HOUR, month@DAY (1 to 28), year@MONTH.",
        check: { AuditPeriod($0) == nil ? "hour, day, month or year, with @OFFSET or without" : nil })

    public static let all: [AnyOption] = [
        connection.erased, maxPoolSize.erased, serviceDownTime.erased, reclaimInterval.erased,
        shelvedOffloadTime.erased, usageAuditPeriod.erased,
    ]

    /// The periods for which the usage of instances is told.
    public static func usageAudit(_ configuration: Configuration) -> AuditPeriod {
        // What the option's check lets through can be read.
        AuditPeriod(configuration[usageAuditPeriod]) ?? AuditPeriod.monthly
    }

    /// Where the database is under `configuration`.
    public static func location(_ configuration: Configuration) -> DatabaseLocation {
        let given = configuration[connection]
        guard given.hasPrefix("sqlite:///") else {
            return .server(url: given, connections: configuration[maxPoolSize])
        }
        let text = given.dropFirst("sqlite:///".count)
        let marker = "$state_path"
        if text.hasPrefix(marker) {
            return .file(configuration[CommonOptions.statePath] + text.dropFirst(marker.count))
        }
        return .file(text.hasPrefix("/") ? String(text) : "/" + text)
    }
}
