internal import Crypto
public import HTTP

/// One service of the catalog with its endpoints.
public struct CatalogEntry: Sendable, Hashable {
    /// One address of a service.
    public struct Endpoint: Sendable, Hashable {
        public var id: String
        /// `public`, `internal` or `admin`.
        public var interface: String
        public var region: String
        public var url: String

        public init(id: String, interface: String, region: String, url: String) {
            (self.id, self.interface, self.region, self.url) = (id, interface, region, url)
        }
    }

    public var id: String
    /// `compute`, `identity`, `image`, `placement`.
    public var type: String
    public var name: String
    public var endpoints: [Endpoint]

    public init(id: String, type: String, name: String, endpoints: [Endpoint]) {
        (self.id, self.type, self.name, self.endpoints) = (id, type, name, endpoints)
    }

    /// A service with the same URL for all three interfaces. The ids follow from the type and so never change.
    public init(type: String, name: String, url: String, region: String) {
        self.init(
            id: stableID("service", type), type: type, name: name,
            endpoints: ["public", "internal", "admin"].map {
                Endpoint(id: stableID($0, type, region), interface: $0, region: region, url: url)
            })
    }

    /// The services that one port serves below `base` (`http://host:port`).
    public static func standard(base: String, region: String) -> [CatalogEntry] {
        [
            CatalogEntry(type: "identity", name: "keystone", url: "\(base)/identity/v3", region: region),
            CatalogEntry(type: "compute", name: "nova", url: "\(base)/compute/v2.1", region: region),
            CatalogEntry(type: "image", name: "glance", url: "\(base)/image", region: region),
            CatalogEntry(type: "placement", name: "placement", url: "\(base)/placement", region: region),
        ]
    }
}

/// The services as a client should see them that reached us under a base URL (`http://host:port`).
public typealias CatalogSource = @Sendable (_ base: String) -> [CatalogEntry]

/// Scheme and host as the client used them, so that links lead back the same way: `X-Forwarded-Proto` and
/// `X-Forwarded-Host` of a proxy before the request's own. Without a usable host, `fallback`.
public func baseURL(of request: HTTPRequest, fallback: String = "127.0.0.1") -> String {
    let forwarded = firstElement(request.headers["X-Forwarded-Proto"]).map { $0.lowercased() }
    let scheme = forwarded == "http" || forwarded == "https" ? forwarded : nil
    let hosts = [firstElement(request.headers["X-Forwarded-Host"]), request.headers["Host"]]
    let host = hosts.lazy.compactMap(\.self).first(where: isHost) ?? fallback
    return "\(scheme ?? (request.isTLS ? "https" : "http"))://\(host)"
}

private func firstElement(_ list: String?) -> String? {
    list?.split(separator: ",").first.map { String($0.filter { $0 != " " }) }
}

/// Whether `text` is a host with an optional port; anything else could break out of the links it is put into.
private func isHost(_ text: String) -> Bool {
    (1...255).contains(text.utf8.count)
        && text.utf8.allSatisfy { byte in
            switch byte {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
            default: ".-_:[]".utf8.contains(byte)
            }
        }
}

private func stableID(_ parts: String...) -> String {
    String(Hex.encode(digest(.sha256, of: Array(parts.joined(separator: "/").utf8))).prefix(32))
}
