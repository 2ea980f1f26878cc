internal import HTTP
internal import Model

/// Nova's proxies of the network service, which end at 2.35. Clients ask them when the catalog names no network service;
/// the answer says what is missing instead of a bare 404.
extension ComputeRoutes {
    mutating func addNetworkProxies() {
        for path in ["os-networks", "os-tenant-networks", "os-security-groups", "os-floating-ips"] {
            for pattern in [path, path + "/{rest...}"] {
                for method in [HTTPMethod.get, .post, .put, .delete] {
                    add(method, pattern, rule: "network-proxies", versions: 1...35) { _ in
                        throw APIError(
                            501,
                            "There is no network service: a server gets one interface on the configured network (auto), "
                                + "or none. Networks, security groups and floating addresses are not available yet.")
                    }
                }
            }
        }
    }
}
