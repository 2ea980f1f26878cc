internal import Database
internal import Model
internal import RPC
internal import Telemetry

/// Tells a host that returns what was evacuated from it, and takes its answer. Until it has answered it does not count as
/// up, whatever it says.
struct EvacuationService: Sendable {
    let database: ControlDatabase
    let liveness: Liveness
    let now: Now
    private let log = Logger("conductor")

    init(database: ControlDatabase, liveness: Liveness, now: @escaping Now) {
        (self.database, self.liveness, self.now) = (database, liveness, now)
    }

    func register(on server: RPCServer) {
        server.register(ListEvacuated.self, allowed: [.host]) { params, call in
            try requireSelf(params.host, call)
            return .init(evacuated: try await list(params.host))
        }
        server.register(ConfirmEvacuated.self, allowed: [.host]) { params, call in
            try requireSelf(params.host, call)
            try await confirm(params)
            return RPCConfirmation()
        }
    }

    private func requireSelf(_ host: HostName, _ call: RPCCall) throws {
        guard call.peer == .host(host) else {
            throw Failure(.forbidden, "\(call.peer) may not speak for host \(host)")
        }
    }

    private func list(_ host: HostName) async throws -> [ListEvacuated.Evacuated] {
        var found: [ListEvacuated.Evacuated] = []
        for record in try await database.evacuations.list(from: host) {
            let standing = try await standing(of: record)
            switch standing {
            case .underWay, .gone:
                found.append(
                    .init(
                        instance: record.instance, migration: record.migration, generation: record.generation,
                        isGone: standing == .gone, sharesDisks: record.sharesDisks))
            case .failed:
                // Its task has ended without a word, as one that a newer request has overtaken.
                try await database.evacuations.forget(record.migration)
            }
        }
        return found
    }

    private enum Standing {
        case underWay
        /// Elsewhere, or deleted.
        case gone
        /// The instance is still the host's.
        case failed
    }

    private func standing(of record: EvacuationRecord) async throws -> Standing {
        guard let instance = try await database.instances.find(record.instance, includeDeleted: true),
            instance.deletedAt == nil
        else { return .gone }
        if instance.move?.migration == record.migration { return .underWay }
        return instance.host == record.source ? .failed : .gone
    }

    /// Only of what is elsewhere: a host that confirms what is under way has not understood.
    private func confirm(_ params: ConfirmEvacuated.Params) async throws {
        var gone: [MigrationID] = []
        for record in try await database.evacuations.list(from: params.host)
        where params.migrations.contains(record.migration) {
            guard try await standing(of: record) != .underWay else {
                throw Failure(.conflict, "evacuation \(record.migration) is under way", isRetriable: true)
            }
            gone.append(record.migration)
        }
        try await database.evacuations.confirm(gone, by: params.host, now: now())
        await liveness.readEvacuated()
        log.notice("a host has removed what was evacuated from it", ["host": params.host, "count": gone.count])
    }
}
