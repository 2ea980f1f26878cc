internal import HTTP
internal import Model

/// What became of one server of a host that is emptied.
struct DrainOutcome: Sendable, Hashable {
    var server: String
    var name: String
    /// Where it is now; `nil` when it stays.
    var host: String?
    var seconds: Double
    /// Why it stays.
    var reason: String?

    var json: JSON {
        [
            "server": .string(server), "name": .string(name), "host": host.map { .string($0) } ?? .null,
            "seconds": .number(seconds), "reason": reason.map { .string($0) } ?? .null,
        ]
    }
}

/// Empties a host of its servers by moving each while it is off. Begun again after an interruption it goes on: what has
/// been moved and not been confirmed it confirms, what is on its way it waits for.
struct HostDrain: Sendable {
    /// The first version at which a host lists its migrations with their owners.
    private static let version = "2.80"

    let host: String
    let parallel: Int
    let timeout: Duration
    let client: CloudClient
    let remark: @Sendable (String) -> Void

    /// Every server that was, or is, on the host, in the order in which each was done with.
    func run() async throws -> [DrainOutcome] {
        var servers = try await moved()
        let known = Set(servers.map(\.id))
        servers += try await placed().filter { !known.contains($0.id) }
        let total = servers.count
        return try await withThrowingTaskGroup(of: DrainOutcome.self) { group in
            var outcomes: [DrainOutcome] = []
            func note(_ outcome: DrainOutcome) {
                outcomes.append(outcome)
                let what =
                    outcome.host.map { "moved to \($0) in \(Int(outcome.seconds.rounded())) s" }
                    ?? "stays: \(outcome.reason ?? "")"
                remark("[\(outcomes.count)/\(total)] \(outcome.name) \(what)")
            }
            for (index, server) in servers.enumerated() {
                if index >= parallel, let outcome = try await group.next() { note(outcome) }
                group.addTask { try await move(server) }
            }
            while let outcome = try await group.next() { note(outcome) }
            return outcomes
        }
    }

    private struct Server: Sendable {
        var id: String
        var name: String
    }

    private func placed() async throws -> [Server] {
        try await allServers(client, query: [("host", host), ("all_tenants", "true")]).compactMap { server in
            server["id"]?.text.map { Server(id: $0, name: server["name"]?.text ?? $0) }
        }
    }

    /// What an earlier run has moved and not confirmed. Resizes are their users' to confirm.
    private func moved() async throws -> [Server] {
        let query = [("source_compute", host), ("status", "finished"), ("migration_type", "migration")]
        let migrations =
            try await client.request(.get, .compute, "/os-migrations", query: query, microversion: Self.version)[
                "migrations"]?.list ?? []
        var servers: [Server] = []
        for id in migrations.compactMap({ $0["instance_uuid"]?.text }) {
            guard let server = try await found({ try await showServer(id, client) }) else { continue }
            servers.append(Server(id: id, name: server["name"]?.text ?? id))
        }
        return servers
    }

    private func move(_ server: Server) async throws -> DrainOutcome {
        let start = ContinuousClock.now
        var outcome = DrainOutcome(server: server.id, name: server.name, seconds: 0)
        do {
            outcome.host = try await carry(server)
        } catch let error as APIError {
            outcome.reason = error.message
        } catch CommandError.failure(let reason) {
            outcome.reason = reason
        }
        outcome.seconds = Double((ContinuousClock.now - start) / .milliseconds(1)) / 1_000
        return outcome
    }

    /// Gives the server's new host; `nil` where it was deleted meanwhile.
    private func carry(_ server: Server) async throws -> String? {
        guard var seen = try await settled(server) else { return nil }
        switch (status(of: seen), place(of: seen)) {
        case ("ACTIVE", host), ("SHUTOFF", host):
            try await act(server, "migrate")
            guard let moved = try await settled(server) else { return nil }
            seen = moved
            guard status(of: seen) == "VERIFY_RESIZE" else { throw CommandError.failure(try await reason(server)) }
        case ("VERIFY_RESIZE", host?): throw CommandError.failure("its user has yet to confirm its last move")
        case ("VERIFY_RESIZE", _): break
        case (_, host):
            throw CommandError.failure("it is \(status(of: seen)), and only what is ACTIVE or SHUTOFF is moved")
        // Somebody else has moved it.
        case (_, let other): return other
        }
        try await act(server, "confirmResize")
        guard let confirmed = try await settled(server) else { return nil }
        guard ["ACTIVE", "SHUTOFF"].contains(status(of: confirmed)) else {
            throw CommandError.failure("it was moved, and that is not confirmed: \(try await reason(server))")
        }
        return place(of: confirmed)
    }

    private func act(_ server: Server, _ action: String) async throws {
        _ = try await client.request(
            .post, .compute, "/servers/\(percentEncoded(server.id))/action", body: [action: .null],
            microversion: Self.version)
    }

    /// The server when nothing is under way; `nil` when it is gone.
    private func settled(_ server: Server) async throws -> JSON? {
        try await poll(for: timeout, what: "Moving \(server.name)") { () -> JSON?? in
            guard let seen = try await found({ try await showServer(server.id, client) }) else { return .some(nil) }
            guard seen["OS-EXT-STS:task_state"]?.text == nil else { return Optional<JSON?>.none }
            return .some(seen)
        }
    }

    private func place(of server: JSON) -> String? { server["OS-EXT-SRV-ATTR:host"]?.text }

    /// Why its last action failed, as its events say.
    private func reason(_ server: Server) async throws -> String {
        let path = "/servers/\(percentEncoded(server.id))/os-instance-actions"
        let actions =
            try await client.request(.get, .compute, path, microversion: "2.84")["instanceActions"]?.list ?? []
        guard let id = actions.first(where: { $0["message"]?.text != nil })?["request_id"]?.text else {
            return "it came back without a word of why"
        }
        let action = try await client.request(.get, .compute, path + "/\(percentEncoded(id))", microversion: "2.84")
        let events = action["instanceAction"]?["events"]?.list ?? []
        return events.compactMap { $0["details"]?.text }.last ?? "it failed; request \(id) says more"
    }
}
