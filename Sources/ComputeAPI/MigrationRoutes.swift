internal import Database
internal import HTTP
internal import Model

/// What was moved, and what is on its way: `os-migrations`, and the live migrations of a server.
extension ComputeRoutes {
    mutating func addMigrations() {
        let parts = parts
        add(.get, "os-migrations", rule: "os-migrations:index") { call in
            let query = try migrationQuery(call, parts)
            let found: [MigrationRecord]
            do {
                found = try await parts.database.migrations.list(query)
            } catch StoreError.notFound {
                throw APIError.badRequest("Marker \(query.marker?.rawValue.prefix(64) ?? "") could not be found.")
            }
            let next = call.isAtLeast(59) ? try await next(after: found, of: query, parts) : nil
            let addresses = try await addresses(of: found, parts)
            return jsonAnswer(capacity: 64 + found.count * 512) { writer in
                writer.array("migrations") { writer in
                    for migration in found {
                        writer.object { MigrationView(migration, addresses).write(call, to: &$0) }
                    }
                }
                if let next {
                    call.writeNext("migrations_links", path: "os-migrations", marker: next.rawValue, to: &writer)
                }
            }
        }
        addServer(.get, "/migrations", rule: "servers:migrations:index", versions: 23...Int.max) { call, server in
            let running = try await live(server, parts)
            let addresses = try await addresses(of: running, parts)
            return jsonAnswer(capacity: 64 + running.count * 512) { writer in
                writer.array("migrations") { writer in
                    for migration in running {
                        writer.object { MigrationView(migration, addresses).writeLive(call, to: &$0) }
                    }
                }
            }
        }
        addServer(.get, "/migrations/{migration}", rule: "servers:migrations:show", versions: 23...Int.max) {
            call, server in
            let number = call.parameter("migration")
            guard let found = try await live(server, parts).first(where: { String($0.number) == number }) else {
                throw APIError.notFound(
                    "In-progress live migration \(number.prefix(64)) is not found for server \(server.id).")
            }
            let addresses = try await addresses(of: [found], parts)
            return jsonAnswer(capacity: 512) { writer in
                writer.object("migration") { MigrationView(found, addresses).writeLive(call, to: &$0) }
            }
        }
        addServer(
            .post, "/migrations/{migration}/action", rule: "servers:migrations:force_complete", versions: 22...Int.max
        ) {
            call, server in
            let members = try call.body().members ?? [:]
            guard members.count == 1, members["force_complete"]?.isNull == true else {
                throw APIError.badRequest(
                    "Invalid input for a migration's action: {\"force_complete\": null} is wanted.")
            }
            try await LiveMigrationEnd(server: server, call: call, parts: parts).force()
            return HTTPResponse(202)
        }
        addServer(.delete, "/migrations/{migration}", rule: "servers:migrations:delete", versions: 24...Int.max) {
            call, server in
            try await LiveMigrationEnd(server: server, call: call, parts: parts).abort()
            return HTTPResponse(202)
        }
    }
}

/// The live migrations of a server that are under way.
private func live(_ server: Instance, _ parts: ComputeParts) async throws -> [MigrationRecord] {
    var query = MigrationQuery()
    (query.instance, query.types) = (server.id, [.liveMigration])
    query.statuses = Set(MigrationStatus.allCases).subtracting(MigrationStatus.over)
    return try await parts.database.migrations.list(query)
}

/// What `os-migrations` is asked.
private func migrationQuery(_ call: ComputeCall, _ parts: ComputeParts) throws(APIError) -> MigrationQuery {
    var known: Set<String> = ["hidden", "host", "instance_uuid", "source_compute", "status", "migration_type"]
    if call.isAtLeast(59) { known.formUnion(["limit", "marker", "changes-since"]) }
    if call.isAtLeast(66) { known.insert("changes-before") }
    if call.isAtLeast(80) { known.formUnion(["user_id", "project_id"]) }
    // Earlier than other lists refuse them.
    try call.requireKnownQuery(known, from: 59)
    var query = MigrationQuery()
    query.host = call.query["host"].map { HostName($0) }
    query.sourceHost = call.query["source_compute"].map { HostName($0) }
    if let id = call.query["instance_uuid"] {
        guard isUUID(id) else {
            throw .badRequest("Invalid input for query parameter instance_uuid: a uuid is wanted.")
        }
        query.instance = InstanceID(id.lowercased())
    }
    if call.isAtLeast(80) {
        query.userID = call.query["user_id"].map { UserID($0) }
        query.projectID = call.query["project_id"].map { ProjectID($0) }
    }
    if call.isAtLeast(59) {
        let times = try ChangeTimes(call)
        (query.changedSince, query.changedBefore) = (times.since, times.before)
        query.marker = call.query["marker"].map { MigrationID($0.lowercased()) }
        query.limit = try call.limit(maximum: parts.settings.maxLimit)
    }
    // A status, or a type, that there is not is that of no migration.
    if let text = call.query["status"] {
        if let status = MigrationStatus(rawValue: text) { query.statuses = [status] } else { query.limit = 0 }
    }
    if let text = call.query["migration_type"] {
        if let type = MigrationType(rawValue: text) { query.types = [type] } else { query.limit = 0 }
    }
    return query
}

/// The last of a page that is not the last page: what the next one begins after.
private func next(
    after found: [MigrationRecord], of query: MigrationQuery, _ parts: ComputeParts
) async throws -> MigrationID? {
    guard let last = found.last else { return nil }
    var rest = query
    (rest.marker, rest.limit) = (last.id, 1)
    return try await parts.database.migrations.list(rest).isEmpty ? nil : last.id
}

/// The addresses of the hosts that migrations went to.
private func addresses(of migrations: [MigrationRecord], _ parts: ComputeParts) async throws -> [HostName: String] {
    let wanted = Set(migrations.compactMap(\.destinationHost))
    guard !wanted.isEmpty else { return [:] }
    return Dictionary(
        try await parts.database.hosts.list().filter { wanted.contains($0.report.host) }.map {
            ($0.report.host, $0.report.hostAddress)
        }
    ) { first, _ in first }
}
