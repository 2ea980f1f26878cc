public import Configuration

/// The options of `[image]`.
public enum ImageOptions {
    public static let storePath = Option(
        "image", "store_path", default: "$state_path/images",
        help: "Folder that holds the images' bytes; with several API processes one that all of them see. "
            + "$state_path stands for [DEFAULT] state_path.",
        check: { $0.hasPrefix("/") || $0.hasPrefix("$state_path/") ? nil : "an absolute path" })

    public static let maxSizeGiB = Option(
        "image", "max_size_gb", default: 100,
        help: "Largest image that can be uploaded, in GiB; 0 for no limit.",
        check: { (0...1_048_576).contains($0) ? nil : "0 to 1048576" })

    public static let transferTimeout = Option(
        "image", "transfer_timeout", default: Duration.seconds(86_400),
        help: "Longest time that one upload or download may take.",
        check: { $0 > .zero ? nil : "more than 0" })

    public static let all: [AnyOption] = [storePath.erased, maxSizeGiB.erased, transferTimeout.erased]

    /// The store's folder under `configuration`.
    public static func path(_ configuration: Configuration) -> String {
        let text = configuration[storePath]
        let marker = "$state_path"
        guard text.hasPrefix(marker) else { return text }
        return configuration[CommonOptions.statePath] + text.dropFirst(marker.count)
    }

    /// The largest image in bytes; `nil` for no limit.
    public static func sizeLimit(_ configuration: Configuration) -> Int64? {
        let limit = configuration[maxSizeGiB]
        return limit == 0 ? nil : Int64(limit) << 30
    }
}
