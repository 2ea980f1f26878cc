public import Configuration

/// Where the control plane's database is.
public enum DatabaseOptions {
    public static let connection = Option(
        "database", "connection", default: "sqlite:///$state_path/apus.db",
        help: "sqlite:///PATH; $state_path stands for [DEFAULT] state_path.",
        check: { $0.hasPrefix("sqlite:///") && $0.utf8.count > "sqlite:///".utf8.count ? nil : "sqlite:///PATH" })

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

    public static let all: [AnyOption] = [
        connection.erased, serviceDownTime.erased, reclaimInterval.erased, shelvedOffloadTime.erased,
    ]

    /// The database file's path under `configuration`.
    public static func path(_ configuration: Configuration) -> String {
        let text = String(configuration[connection].dropFirst("sqlite:///".count))
        let marker = "$state_path"
        if text.hasPrefix(marker) { return configuration[CommonOptions.statePath] + text.dropFirst(marker.count) }
        return text.hasPrefix("/") ? text : "/" + text
    }
}
