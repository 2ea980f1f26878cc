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

/// Empties a host of its servers: those that run or are paused are moved so, the others while they are off; with `isCold`
/// every one while it is off. Begun again after an interruption it goes on: what has been moved and not been confirmed it
/// confirms, what is on its way it waits for.
struct HostDrain: Sendable {
    /// The first version at which a host lists its migrations with their owners.
    private static let version = "2.80"

    let host: String
    let parallel: Int
    let isCold: Bool
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
        case ("ACTIVE", host) where !isCold, ("PAUSED", host) where !isCold:
            return try await carryLive(server)
        case ("ACTIVE", host), ("SHUTOFF", host):
            try await act(server, "migrate")
            guard let moved = try await settled(server) else { return nil }
            seen = moved
            guard status(of: seen) == "VERIFY_RESIZE" else {
                throw CommandError.failure(try await lastFailure(of: server.id, client))
            }
        case ("VERIFY_RESIZE", host?): throw CommandError.failure("its user has yet to confirm its last move")
        case ("VERIFY_RESIZE", _): break
        case (_, host):
            let moved = isCold ? "ACTIVE or SHUTOFF" : "ACTIVE, PAUSED or SHUTOFF"
            throw CommandError.failure("it is \(status(of: seen)), and only what is \(moved) is moved")
        // Somebody else has moved it.
        case (_, let other): return other
        }
        try await act(server, "confirmResize")
        guard let confirmed = try await settled(server) else { return nil }
        guard ["ACTIVE", "SHUTOFF"].contains(status(of: confirmed)) else {
            let reason = try await lastFailure(of: server.id, client)
            throw CommandError.failure("it was moved, and that is not confirmed: \(reason)")
        }
        return place(of: confirmed)
    }

    /// The same for one that runs, or is halted with its memory.
    private func carryLive(_ server: Server) async throws -> String? {
        try await act(server, "os-migrateLive", ["host": .null, "block_migration": "auto"])
        guard let moved = try await settled(server) else { return nil }
        guard status(of: moved) != "ERROR" else {
            throw CommandError.failure("it is in ERROR: \(try await lastFailure(of: server.id, client))")
        }
        guard place(of: moved) != host else {
            throw CommandError.failure(try await lastFailure(of: server.id, client))
        }
        return place(of: moved)
    }

    private func act(_ server: Server, _ action: String, _ argument: JSON = .null) async throws {
        _ = try await client.request(
            .post, .compute, "/servers/\(percentEncoded(server.id))/action", body: .object([action: argument]),
            microversion: Self.version)
    }

    /// The server when nothing is under way; `nil` when it is gone.
    private func settled(_ server: Server) async throws -> JSON? {
        var told = 0
        return try await poll(for: timeout, what: "Moving \(server.name)") { () -> JSON?? in
            guard let seen = try await found({ try await showServer(server.id, client) }) else { return .some(nil) }
            guard seen["OS-EXT-STS:task_state"]?.text == nil else {
                // Of large ones a person wants to see that they go on; a line a quarter is enough.
                let quarter = (seen["progress"]?.int ?? 0) / 25 * 25
                if status(of: seen) == "MIGRATING", quarter > told, quarter < 100 {
                    told = quarter
                    remark("\(server.name): \(quarter) % is there")
                }
                return Optional<JSON?>.none
            }
            return .some(seen)
        }
    }

    private func place(of server: JSON) -> String? { server["OS-EXT-SRV-ATTR:host"]?.text }
}

/// Why a server's last action failed, as its events say.
func lastFailure(of server: String, _ client: CloudClient) async throws -> String {
    let path = "/servers/\(percentEncoded(server))/os-instance-actions"
    let actions = try await client.request(.get, .compute, path, microversion: "2.84")["instanceActions"]?.list ?? []
    guard let id = actions.first(where: { $0["message"]?.text != nil })?["request_id"]?.text else {
        return "it came back without a word of why"
    }
    let action = try await client.request(.get, .compute, path + "/\(percentEncoded(id))", microversion: "2.84")
    let events = action["instanceAction"]?["events"]?.list ?? []
    return events.compactMap { $0["details"]?.text }.last ?? "it failed; request \(id) says more"
}
