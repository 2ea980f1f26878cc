internal import HTTP
internal import Model

extension IdentityRoutes {
    func addCatalog(to router: inout Router) {
        router.on(.get, "/v3/auth/catalog") { request in
            guard try await caller(request).scope != nil else {
                throw IdentityError.forbidden("An unscoped token has no catalog.")
            }
            return json(200) { writer in
                writer.array("catalog") { writeCatalog(to: &$0, request) }
                writer.object("links") { $0.member("self", link(request, "auth/catalog")) }
            }
        }
        router.on(.get, "/v3/services") { request in
            try await admin(request, "list_services")
            let entries = catalog(baseURL(of: request)).filter { entry in
                (request.query["type"] ?? entry.type) == entry.type
                    && (request.query["name"] ?? entry.name) == entry.name
            }
            return list(request, "services", entries) { write($1, to: &$0, request) }
        }
        router.on(.get, "/v3/services/{id}") { request in
            try await admin(request, "get_service")
            let entries = catalog(baseURL(of: request))
            guard let entry = entries.first(where: { $0.id == request.parameters["id"] }) else {
                throw IdentityError.notFound("Could not find service.")
            }
            return json(200) { writer in writer.object("service") { write(entry, to: &$0, request) } }
        }
        router.on(.get, "/v3/endpoints") { request in
            try await admin(request, "list_endpoints")
            let query = request.query
            let all = endpoints(request).filter { entry, endpoint in
                (query["service_id"] ?? entry.id) == entry.id
                    && (query["interface"] ?? endpoint.interface) == endpoint.interface
                    && (query["region_id"] ?? endpoint.region) == endpoint.region
            }
            return list(request, "endpoints", all) { write($1.1, of: $1.0, to: &$0, request) }
        }
        router.on(.get, "/v3/endpoints/{id}") { request in
            try await admin(request, "get_endpoint")
            guard let (entry, endpoint) = endpoints(request).first(where: { $0.1.id == request.parameters["id"] })
            else {
                throw IdentityError.notFound("Could not find endpoint.")
            }
            return json(200) { writer in
                writer.object("endpoint") { write(endpoint, of: entry, to: &$0, request) }
            }
        }
        router.on(.get, "/v3/regions") { request in
            _ = try await caller(request)
            return list(request, "regions", regions(request)) { write(region: $1, to: &$0, request) }
        }
        router.on(.get, "/v3/regions/{id}") { request in
            _ = try await caller(request)
            guard let region = regions(request).first(where: { $0 == request.parameters["id"] }) else {
                throw IdentityError.notFound("Could not find region.")
            }
            return json(200) { writer in writer.object("region") { write(region: region, to: &$0, request) } }
        }
    }

    /// The catalog's entries inside an array.
    func writeCatalog(to writer: inout JSONWriter, _ request: HTTPRequest) {
        for entry in catalog(baseURL(of: request)) {
            writer.object { writer in
                writer.member("id", entry.id)
                writer.member("type", entry.type)
                writer.member("name", entry.name)
                writer.array("endpoints") { writer in
                    for endpoint in entry.endpoints {
                        writer.object {
                            $0.member("id", endpoint.id)
                            $0.member("interface", endpoint.interface)
                            $0.member("region", endpoint.region)
                            $0.member("region_id", endpoint.region)
                            $0.member("url", endpoint.url)
                        }
                    }
                }
            }
        }
    }

    private func endpoints(_ request: HTTPRequest) -> [(CatalogEntry, CatalogEntry.Endpoint)] {
        catalog(baseURL(of: request)).flatMap { entry in entry.endpoints.map { (entry, $0) } }
    }

    private func regions(_ request: HTTPRequest) -> [String] {
        Set(endpoints(request).map { $0.1.region }).sorted()
    }

    private func write(_ entry: CatalogEntry, to writer: inout JSONWriter, _ request: HTTPRequest) {
        writer.member("id", entry.id)
        writer.member("type", entry.type)
        writer.member("name", entry.name)
        writer.member("description", "")
        writer.member("enabled", true)
        writer.object("links") { $0.member("self", link(request, "services/\(entry.id)")) }
    }

    private func write(
        _ endpoint: CatalogEntry.Endpoint, of entry: CatalogEntry, to writer: inout JSONWriter, _ request: HTTPRequest
    ) {
        writer.member("id", endpoint.id)
        writer.member("interface", endpoint.interface)
        writer.member("region", endpoint.region)
        writer.member("region_id", endpoint.region)
        writer.member("service_id", entry.id)
        writer.member("url", endpoint.url)
        writer.member("enabled", true)
        writer.object("links") { $0.member("self", link(request, "endpoints/\(endpoint.id)")) }
    }

    private func write(region: String, to writer: inout JSONWriter, _ request: HTTPRequest) {
        writer.member("id", region)
        writer.member("description", "")
        writer.member("parent_region_id", String?.none)
        writer.object("links") { $0.member("self", link(request, "regions/\(PercentEncoding.encode(region))")) }
    }
}
