public import Configuration
internal import HTTP
public import Model
public import Telemetry

/// What every speaker of RPC must know.
public enum RPCOptions {
    public static let allowPlaintext = Option(
        "apus", "allow_plaintext", default: false,
        help: "Let services listen and send credentials beyond loopback without TLS. For closed test networks only.")

    public static let all: [AnyOption] = [allowPlaintext.erased]
}

/// Throws `Failure(.forbidden)` when a credential would travel to `url` in plaintext beyond this machine.
public func requireConfidentiality(of url: String, isPlaintextAllowed: Bool) throws(Failure) {
    guard !isPlaintextAllowed, !url.hasPrefix("https://") else { return }
    guard let host = plaintextHost(url), ListenAddress.isLoopback(host) else {
        throw Failure(
            .forbidden, "\(url) is beyond this machine and not TLS: no credential is sent there in plaintext")
    }
}

/// The host of a plain `http://HOST[:PORT][/…]`; `nil` for anything else. A name and password before the host are not
/// plain: behind them the host would be another one than it seems.
private func plaintextHost(_ url: String) -> String? {
    guard url.hasPrefix("http://") else { return nil }
    let authority = url.dropFirst("http://".count).prefix { $0 != "/" && $0 != "?" && $0 != "#" }
    let host: Substring
    let rest: Substring
    if authority.hasPrefix("[") {
        guard let end = authority.firstIndex(of: "]") else { return nil }
        host = authority[..<end].dropFirst()
        rest = authority[authority.index(after: end)...]
    } else {
        host = authority.prefix { $0 != ":" }
        rest = authority.dropFirst(host.count)
    }
    guard rest.isEmpty || (rest.hasPrefix(":") && UInt16(rest.dropFirst()) != nil) else { return nil }
    return String(host)
}

extension RPCOptions {
    /// What a service checks before it serves: throws `Failure(.forbidden)` when one of `urls` would get its credential
    /// in plaintext, and warns where the configuration allows that.
    public static func checkConfidentiality(
        of urls: [String], _ configuration: Configuration, _ log: Logger
    ) throws(Failure) {
        let isAllowed = configuration[allowPlaintext]
        for url in urls { try requireConfidentiality(of: url, isPlaintextAllowed: isAllowed) }
        guard isAllowed else { return }
        log.warning("[apus] allow_plaintext is set: credentials may cross the network unencrypted")
    }
}
