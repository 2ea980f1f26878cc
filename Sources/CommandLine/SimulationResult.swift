internal import Model
internal import Simulation

/// What a simulation has shown.
struct SimulationResult: Sendable {
    /// What one control process has used.
    struct Usage: Sendable {
        var program: String
        /// Of one core, over the time of the launches.
        var cores: Double
        var memoryMiB: Double
    }

    var plan: SimulationPlan
    var accepted = 0
    /// Deletions that were accepted.
    var deletionsAccepted = 0
    /// Images that were asked for and accepted, that were filled, and that were not because their server went first.
    var snapshotsAccepted = 0
    var snapshotsMade = 0
    var snapshotsFailed = 0
    /// Launches that the asked rate would have had, and for which too many others had no answer yet.
    var unsent = 0
    /// Requests that were refused, by HTTP status.
    var refused: [Int: Int] = [:]
    var active = 0
    var failed = 0
    /// Why, each reason once.
    private(set) var failures: [String] = []
    /// Seconds of the launches.
    var elapsed = 0.0
    /// From the request to the end of its action, the guest's own time included: milliseconds, sorted.
    var launches: [Double] = []
    var deletions: [Double] = []
    var hosts = SimulationCounts()
    /// From the first request of a burst until the last of its builds was claimed.
    var burstSeconds: Double?
    /// Conductors that were killed.
    var kills = 0
    /// Seconds from such a kill until others had taken over all that the conductor was at.
    var failovers: [Double] = []
    var usages: [Usage] = []
    var databaseMiB: Double?
    /// What contradicts, a line each.
    var problems: [String] = []

    var text: String {
        var table = Table(["WHAT", "VALUE"])
        for (what, value) in rows { table.add([what, value]) }
        let verdict = problems.isEmpty ? "Hosts and database agree." : problems.joined(separator: "\n")
        return table.text + "\n" + verdict
    }

    /// Keeps a reason that is not known yet; of many, the first ones.
    mutating func note(failure: String) {
        guard failures.count < 10, !failures.contains(failure) else { return }
        failures.append(failure)
    }

    /// Signs of life that came to nothing, or did not come when they were due.
    var dropped: Int { hosts.lostHeartbeats + hosts.lateHeartbeats + hosts.failedReports }

    /// Servers that became active, a second.
    var launchesPerSecond: Double { Double(active) / max(elapsed, 0.001) }

    /// With the rate that was asked for: there are never more than that.
    private var launchRate: String {
        let reached = fixed(launchesPerSecond, 1)
        return plan.burst > 0 ? reached : "\(reached) of \(plan.rate) asked for"
    }

    private var rows: [(String, String)] {
        var rows = [
            ("hosts", "\(plan.hosts)"), ("launches asked for", "\(accepted + refused.values.reduce(0, +))"),
            ("accepted", "\(accepted)"),
            (
                "refused",
                refused.isEmpty
                    ? "0"
                    : refused.sorted { $0.key < $1.key }.map { "\($0.value) with \($0.key)" }.joined(separator: ", ")
            ),
            ("became active", "\(active)"),
            ("ended in error", ([String(failed)] + failures).joined(separator: "; ")),
            ("launches/s", launchRate), ("launches that could not be sent", "\(unsent)"),
            ("deletions accepted", "\(deletionsAccepted)"),
            ("snapshots accepted", "\(snapshotsAccepted): \(snapshotsMade) made, \(snapshotsFailed) not"),
            ("launch p50, p99 [ms]", spread(launches)), ("deletion p50, p99 [ms]", spread(deletions)),
            ("heartbeats", "\(hosts.heartbeats), lost \(hosts.lostHeartbeats), late \(hosts.lateHeartbeats)"),
            ("reports", "\(hosts.reports), failed \(hosts.failedReports)"), ("signs of life dropped", "\(dropped)"),
            ("builds failed on hosts", "\(hosts.failedBuilds)"), ("builds refused by hosts", "\(hosts.refusedBuilds)"),
            ("agents that died", "\(hosts.deaths)"), ("conductors that were killed", "\(kills)"),
        ]
        if let longest = failovers.max() {
            let median = quantile(failovers.sorted(), 0.5)
            rows.append(("taken over after, p50, max [s]", "\(fixed(median, 2)), \(fixed(longest, 2))"))
        }
        if let burstSeconds { rows.append(("all claimed after [s]", fixed(burstSeconds, 2))) }
        for usage in usages {
            rows.append((usage.program, "\(fixed(usage.cores, 2)) cores, \(fixed(usage.memoryMiB, 1)) MiB"))
        }
        if let databaseMiB { rows.append(("database [MiB]", fixed(databaseMiB, 1))) }
        return rows
    }

    private func spread(_ values: [Double]) -> String {
        guard !values.isEmpty else { return "-" }
        return "\(fixed(quantile(values, 0.5), 1)), \(fixed(quantile(values, 0.99), 1))"
    }

    private func quantile(_ sorted: [Double], _ share: Double) -> Double {
        sorted[min(sorted.count - 1, Int(Double(sorted.count) * share))]
    }

    var json: JSON {
        var members: [String: JSON] = [
            "seed": .integer(Int64(bitPattern: plan.settings.seed)), "hosts": .integer(Int64(plan.hosts)),
            "accepted": .integer(Int64(accepted)), "active": .integer(Int64(active)),
            "failed": .integer(Int64(failed)), "failures": .array(failures.map { .string($0) }),
            "launches_per_second": .number(launchesPerSecond),
            "asked_per_second": plan.burst > 0 ? .null : .integer(Int64(plan.rate)), "unsent": .integer(Int64(unsent)),
            "snapshots_accepted": .integer(Int64(snapshotsAccepted)), "snapshots_made": .integer(Int64(snapshotsMade)),
            "snapshots_failed": .integer(Int64(snapshotsFailed)),
            "deletions_accepted": .integer(Int64(deletionsAccepted)), "dropped": .integer(Int64(dropped)),
            "refused": .object(
                Dictionary(uniqueKeysWithValues: refused.map { ("\($0.key)", .integer(Int64($0.value))) })),
            "heartbeats": .integer(Int64(hosts.heartbeats)), "lost_heartbeats": .integer(Int64(hosts.lostHeartbeats)),
            "late_heartbeats": .integer(Int64(hosts.lateHeartbeats)), "reports": .integer(Int64(hosts.reports)),
            "failed_reports": .integer(Int64(hosts.failedReports)), "deaths": .integer(Int64(hosts.deaths)),
            "kills": .integer(Int64(kills)),
            "processes": .array(
                usages.map {
                    ["program": .string($0.program), "cores": .number($0.cores), "memory_mib": .number($0.memoryMiB)]
                }),
            "problems": .array(problems.map { .string($0) }),
        ]
        for (name, values) in [("launch", launches), ("deletion", deletions)] where !values.isEmpty {
            members["\(name)_p50_ms"] = .number(quantile(values, 0.5))
            members["\(name)_p99_ms"] = .number(quantile(values, 0.99))
        }
        if !failovers.isEmpty { members["failovers_s"] = .array(failovers.map { .number($0) }) }
        if let burstSeconds { members["burst_s"] = .number(burstSeconds) }
        if let databaseMiB { members["database_mib"] = .number(databaseMiB) }
        return .object(members)
    }
}
