internal import Database
internal import Model
internal import RPC
internal import Telemetry

/// Who is alive: heartbeats are kept in memory and written in one batch a second.
actor Liveness {
    private let services: ServiceStore
    private let downAfter: Duration
    private let log = Logger("conductor")
    private var pending: [ServiceKey: ServiceHeartbeat] = [:]
    /// What other conductors have heard, read with each flush.
    private var lastSeen: [ServiceKey: Timestamp] = [:]

    struct ServiceKey: Hashable {
        var host: HostName
        var binary: String
    }

    init(services: ServiceStore, downAfter: Duration) {
        (self.services, self.downAfter) = (services, downAfter)
    }

    func record(_ beat: Heartbeat.Params, at now: Timestamp) {
        let key = ServiceKey(host: beat.host, binary: beat.binary)
        pending[key] = ServiceHeartbeat(host: beat.host, binary: beat.binary, version: beat.version, at: now)
        lastSeen[key] = max(lastSeen[key] ?? now, now)
    }

    /// Whether `host`'s agent has been heard of within the down time, by this conductor or another.
    func isUp(_ host: HostName, now: Timestamp) async -> Bool {
        let key = ServiceKey(host: host, binary: "nova-compute")
        if let seen = lastSeen[key], now.since(seen) <= downAfter { return true }
        do {
            guard let service = try await services.find(host: host, binary: key.binary),
                let seen = service.lastSeenAt, !service.isForcedDown
            else { return false }
            lastSeen[key] = max(lastSeen[key] ?? seen, seen)
            return now.since(seen) <= downAfter
        } catch {
            // Not knowing is not evidence that the host is dead.
            log.error("service records cannot be read", ["error": "\(error)"])
            return true
        }
    }

    /// Writes what came in since the last call; kept for the next one when the database refuses.
    func flush() async {
        guard !pending.isEmpty else { return }
        let batch = pending
        pending = [:]
        do {
            try await services.record(Array(batch.values))
        } catch {
            log.error("heartbeats cannot be written", ["error": "\(error)", "count": batch.count])
            for (key, beat) in batch where pending[key] == nil { pending[key] = beat }
        }
    }
}
