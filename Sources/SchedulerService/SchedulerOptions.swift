public import Configuration

/// The scheduler's options, under Nova's names wherever Nova has the option.
public enum SchedulerOptions {
    public static let listen = Option<String>(
        "scheduler", "listen", default: "127.0.0.1:8782",
        help: "Address and port of the scheduler's RPC service.")
    public static let advertisedURL = Option<String>(
        "scheduler", "advertised_url", default: "",
        help: "URL under which conductors reach this scheduler; empty: made from `listen`.")
    public static let conductorURLs = Option<[String]>(
        "scheduler", "conductor_urls", default: ["http://127.0.0.1:8781"],
        help: "URLs of the conductors, to which heartbeats go.")
    public static let hostSubsetSize = Option<Int>(
        "filter_scheduler", "host_subset_size", default: 1,
        help: "Among how many of the best hosts one is drawn by chance.",
        check: { $0 >= 1 ? nil : "a number from 1" })
    public static let ramWeightMultiplier = Option<Double>(
        "filter_scheduler", "ram_weight_multiplier", default: 1,
        help: "How much free memory counts; negative fills hosts up one after the other.")
    public static let defaultAvailabilityZone = Option<String>(
        "DEFAULT", "default_availability_zone", default: "nova",
        help: "The zone of hosts that are in no aggregate with a zone.")

    public static let all: [AnyOption] = [
        listen.erased, advertisedURL.erased, conductorURLs.erased, hostSubsetSize.erased,
        ramWeightMultiplier.erased, defaultAvailabilityZone.erased,
    ]
}
