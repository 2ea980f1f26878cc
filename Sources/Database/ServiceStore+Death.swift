public import Model
internal import SQL
internal import Telemetry

extension ServiceStore {
    /// Records by what an operator knows that a host is dead. It counts until the host is heard of again.
    ///
    /// - Throws: `.notFound` without a compute service of that host; `.alive` while its agent is heard of and nobody has
    ///   declared it down.
    public func confirmDead(
        _ host: HostName, evidence: String, downAfter: Duration, now: Timestamp
    ) async throws -> ServiceRecord {
        let requestID = RequestScope.current
        return try await database.write { connection in
            guard
                var service = try connection.first(
                    Self.columns + " WHERE host = ? AND binary_name = 'nova-compute'", [.text(host.rawValue)],
                    Self.record)
            else { throw StoreError.notFound("Compute service of host \(host)") }
            guard !service.isUp(now: now, downAfter: downAfter) else { throw StoreError.alive(host: host) }
            (service.deadAt, service.deadEvidence) = (now, evidence)
            try connection.execute(
                "UPDATE services SET dead_at = ?, dead_evidence = ?, revision = ? WHERE uuid = ?",
                [
                    .integer(now.microseconds), .text(evidence),
                    .integer(try Counter.serviceRevision.next(connection)), .text(service.uuid),
                ])
            try ServiceNotification(service: service, requestID: requestID).append(.update, now: now, connection)
            return service
        }
    }
}
