public import Configuration

/// The options of the API service.
public enum APIOptions {
    public static let listen = Option(
        "api", "listen", default: "127.0.0.1:8774",
        help: "Address and port of the public API; port 0 takes any free one.")

    public static let advertisedURL = Option(
        "api", "advertised_url", default: "",
        help: "URL under which clients reach the API, for its certificate; empty: made from `listen`.")

    public static let conductorURLs = Option(
        "api", "conductor_urls", default: ["http://127.0.0.1:8781"],
        help: "URLs of the conductors; the first that answers is used.")

    public static let maxLimit = Option(
        "api", "max_limit", default: 1_000,
        help: "How many servers one page of a list holds at most.",
        check: { (1...1_000).contains($0) ? nil : "1 to 1000" })

    public static let isInstancePasswordEnabled = Option(
        "api", "enable_instance_password", default: true,
        help: "Whether the answer to a server's creation carries the administrator's password.")

    public static let availabilityZone = Option(
        "DEFAULT", "default_availability_zone", default: "nova",
        help: "The zone of hosts that are in no aggregate with a zone.")

    public static let instances = Option(
        "quota", "instances", default: 10, help: "How many servers a project may have; -1 for no limit.",
        check: quota)

    public static let cores = Option(
        "quota", "cores", default: 20, help: "How many VCPUs a project's servers may have together; -1 for no limit.",
        check: quota)

    public static let ram = Option(
        "quota", "ram", default: 51_200,
        help: "How many MiB of memory a project's servers may have together; -1 for no limit.", check: quota)

    public static let metadataItems = Option(
        "quota", "metadata_items", default: 128, help: "How many metadata items a server may have; -1 for no limit.",
        check: quota)

    public static let keyPairs = Option(
        "quota", "key_pairs", default: 100, help: "How many key pairs a user may have; -1 for no limit.", check: quota)

    public static let all: [AnyOption] = [
        listen.erased, advertisedURL.erased, conductorURLs.erased, maxLimit.erased, isInstancePasswordEnabled.erased,
        availabilityZone.erased, instances.erased, cores.erased, ram.erased, metadataItems.erased, keyPairs.erased,
    ]

    @Sendable private static func quota(_ value: Int) -> String? { value >= -1 ? nil : "-1 or more" }
}
