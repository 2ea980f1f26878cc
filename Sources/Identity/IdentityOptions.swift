public import Configuration

/// The identity service's options.
public enum IdentityOptions {
    public static let tokenExpiration = Option(
        "token", "expiration", default: Duration.seconds(3_600), help: "How long a token is valid."
    ) { (.seconds(60)...(.seconds(30 * 86_400))).contains($0) ? nil : "a duration from 1m to 30d" }

    public static let region = Option(
        "identity", "region", default: "RegionOne", help: "The region that the catalog's endpoints are in."
    ) { $0.isEmpty ? "a name" : nil }

    public static let all: [AnyOption] = [tokenExpiration.erased, region.erased]
}
