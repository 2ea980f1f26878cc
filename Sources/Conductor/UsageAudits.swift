internal import Database
internal import Model
internal import Telemetry

/// Tells, for every host, which instances there were in the last period that is over: once, whatever conductor gets to
/// it first. A period that no conductor saw the end of is told when one runs again, unless another has ended since.
struct UsageAudits: Sendable {
    let database: ControlDatabase
    let period: AuditPeriod
    private let log = Logger("conductor")

    init(database: ControlDatabase, period: AuditPeriod) { (self.database, self.period) = (database, period) }

    /// One look. What fails for a host keeps no other from being told; the first failure is thrown at the end.
    func run(now: Timestamp) async throws {
        let last = period.lastEnded(at: now)
        let done = Set(try await database.usageAudits.list(last).map(\.host))
        var first: (any Error)?
        for host in try await database.usageAudits.hosts(in: last) where !done.contains(host) {
            guard !Task.isCancelled else { return }
            do {
                guard let count = try await database.usageAudits.tell(of: host, in: last, now: now) else { continue }
                log.info(
                    "usage is told", ["host": host, "instances": count, "until": last.upperBound.iso8601])
            } catch {
                first = first ?? error
            }
        }
        if let first { throw first }
    }
}
