public import Configuration
internal import HTTP
public import Model

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
    let authority = url.drop { $0 != "/" }.drop { $0 == "/" }.prefix { $0 != "/" }
    let host =
        authority.hasPrefix("[")
        ? String(authority.dropFirst().prefix { $0 != "]" }) : String(authority.prefix { $0 != ":" })
    guard ListenAddress.isLoopback(host) else {
        throw Failure(
            .forbidden, "\(url) is beyond this machine and not TLS: no credential is sent there in plaintext")
    }
}
