internal import Database
internal import Model
internal import RPC
internal import Telemetry

/// Who is alive: heartbeats are kept in memory and written in one batch a second.
actor Liveness {
    private let services: ServiceStore
    private let hosts: HostStore
    private let downAfter: Duration
    private var hearing: Hearing
    private let log = Logger("conductor")
    private var pending: [ServiceKey: ServiceHeartbeat] = [:]
    /// When this conductor last heard of each.
    private var lastSeen: [ServiceKey: Timestamp] = [:]
    private let evacuations: EvacuationStore
    /// The hosts that have evacuations to answer for, as of the last look.
    private var evacuated: Set<HostName> = []
    /// The uuid under which each host's record is, as far as it has been looked up.
    private var proven: [HostName: String] = [:]

    struct ServiceKey: Hashable {
        var host: HostName
        var binary: String
    }

    /// - Parameter patience: how long hosts that count as down may only not have been heard of, after this moment and after
    ///   each time in which heartbeats could not be written.
    init(
        services: ServiceStore, hosts: HostStore, evacuations: EvacuationStore, downAfter: Duration, patience: Duration,
        now: Timestamp
    ) {
        (self.services, self.hosts, self.evacuations, self.downAfter) = (services, hosts, evacuations, downAfter)
        hearing = Hearing(patience: patience, since: now)
    }

    /// Notes a sign of life. Throws `.otherMachine` for an agent that is not the one with the host's record.
    func record(_ beat: Heartbeat.Params, at now: Timestamp) async throws {
        if let uuid = beat.uuid, proven[beat.host] != uuid {
            // A host that has not reported yet has no record, and nothing to be compared with.
            if let known = try await hosts.find(beat.host)?.report.uuid {
                guard known == uuid else {
                    throw StoreError.otherMachine(host: beat.host, known: known, given: uuid)
                }
                proven[beat.host] = uuid
            }
        }
        let key = ServiceKey(host: beat.host, binary: beat.binary)
        pending[key] = ServiceHeartbeat(host: beat.host, binary: beat.binary, version: beat.version, at: now)
        lastSeen[key] = now
    }

    /// Whether `host`'s agent has been heard of within the down time, by this conductor or another, and has not been
    /// declared down, which counts more than any sign of life.
    func isUp(_ host: HostName, now: Timestamp) async -> Bool {
        let key = ServiceKey(host: host, binary: "nova-compute")
        do {
            guard var service = try await services.find(host: host, binary: key.binary) else {
                return lastSeen[key].map { ServiceRecord.isFresh($0, now: now, downAfter: downAfter) } ?? false
            }
            // What was heard since the last flush is not in the record yet.
            service.lastSeenAt = [service.lastSeenAt, lastSeen[key]].compactMap(\.self).max {
                abs(now.microseconds - $0.microseconds) > abs(now.microseconds - $1.microseconds)
            }
            return service.isUp(now: now, downAfter: downAfter)
        } catch {
            // Not knowing is not evidence that the host is dead.
            log.error("service records cannot be read", ["error": "\(error)"])
            return true
        }
    }

    /// Whether an operator says that nothing runs on the host.
    func isKnownDead(_ host: HostName) async throws -> Bool {
        try await services.find(host: host, binary: "nova-compute")?.isKnownDead ?? false
    }

    /// Whether the host is not heard before it has answered for what was evacuated from it. What another conductor has
    /// written counts within a second.
    func mustAnswer(_ host: HostName) -> Bool { evacuated.contains(host) }

    /// Looks which hosts these are.
    func readEvacuated() async {
        do {
            evacuated = try await evacuations.hosts()
        } catch {
            // The hosts ask by themselves, too.
            log.error("evacuations cannot be read", ["error": "\(error)"])
        }
    }

    /// Whether a host that counts as down may only not have been heard of yet.
    func mayBeMistaken(now: Timestamp) -> Bool { hearing.mayBeMistaken(at: now) }

    /// Writes what came in since the last call; kept for the next one when the database refuses.
    func flush(now: Timestamp) async {
        guard !pending.isEmpty else { return }
        let batch = pending
        pending = [:]
        do {
            try await services.record(Array(batch.values))
            hearing.wrote(at: now)
        } catch {
            hearing.isCutOff = true
            log.error("heartbeats cannot be written", ["error": "\(error)", "count": batch.count])
            for (key, beat) in batch where pending[key] == nil { pending[key] = beat }
        }
    }
}

/// Since when the record of who is alive can be believed: after a start, and after a time without database, hosts look dead
/// that have only not been written down.
struct Hearing: Sendable, Hashable {
    private let patience: Duration
    private var patientUntil: Timestamp
    /// Set while heartbeats cannot be written.
    var isCutOff = false

    init(patience: Duration, since moment: Timestamp) {
        self.patience = patience
        patientUntil = moment + patience
    }

    func mayBeMistaken(at moment: Timestamp) -> Bool { isCutOff || moment < patientUntil }

    mutating func wrote(at moment: Timestamp) {
        guard isCutOff else { return }
        isCutOff = false
        patientUntil = moment + patience
    }
}
