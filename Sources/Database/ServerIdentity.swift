public import HTTP
public import Model

/// The certificate under which a control service listens.
public enum ServerIdentity {
    /// TLS for a service at `listen`: none on loopback or where plaintext is allowed, else a certificate of the
    /// installation's own authority for the address, the advertised URL's host and the control host's name.
    public static func tls(
        for listen: ListenAddress, advertised: String, hostName: HostName, authority: ControlPlaneAuthority,
        isPlaintextAllowed: Bool
    ) async throws -> ServerTLS? {
        guard !listen.isLoopback, !isPlaintextAllowed else { return nil }
        var names = [hostName.rawValue, "localhost", "127.0.0.1"]
        if !["0.0.0.0", "::"].contains(listen.address) { names.append(listen.address) }
        if let host = host(ofURL: advertised), !names.contains(host) { names.append(host) }
        let issued = try await authority.issueServer(commonName: hostName.rawValue, names: names)
        return ServerTLS(certificatePEM: issued.certificatePEM, privateKeyPEM: issued.privateKeyPEM)
    }

    private static func host(ofURL url: String) -> String? {
        guard let start = url.range(ofText: "://") else { return nil }
        let authority = url[start...].prefix { $0 != "/" }
        if authority.hasPrefix("[") { return String(authority.dropFirst().prefix { $0 != "]" }) }
        return String(authority.prefix { $0 != ":" })
    }
}

extension String {
    /// The index behind the first occurrence of `text`.
    fileprivate func range(ofText text: String) -> Index? {
        var start = startIndex
        while start < endIndex {
            if self[start...].hasPrefix(text) { return index(start, offsetBy: text.count) }
            start = index(after: start)
        }
        return nil
    }
}
