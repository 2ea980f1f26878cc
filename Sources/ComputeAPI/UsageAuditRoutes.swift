internal import Database
internal import HTTP
internal import Model

/// Of which hosts the usage of a period has been told, by `instance.exists`.
extension ComputeRoutes {
    mutating func addUsageAudits() {
        let parts = parts
        add(.get, "os-instance_usage_audit_log", rule: "os-instance-usage-audit-log:list") { call in
            try await usageAudits(as: "instance_usage_audit_logs", at: parts.now(), parts)
        }
        add(.get, "os-instance_usage_audit_log/{before}", rule: "os-instance-usage-audit-log:show") { call in
            let text = call.parameter("before")
            guard let before = Timestamp(iso8601: text), text.utf8.count > 10 else {
                throw APIError.badRequest("Invalid timestamp for date \(text.prefix(64))")
            }
            return try await usageAudits(as: "instance_usage_audit_log", at: before, parts)
        }
    }
}

/// The last period that was over at `moment`. An audit is written whole or not at all: none is running, none has failed.
private func usageAudits(as name: String, at moment: Timestamp, _ parts: ComputeParts) async throws -> HTTPResponse {
    let period = parts.settings.auditPeriod.lastEnded(at: moment)
    let done = try await parts.database.usageAudits.list(period)
    let told = Set(done.map(\.host))
    let open = try await parts.database.usageAudits.hosts(in: period).filter { !told.contains($0) }
    let all = done.count + open.count
    return jsonAnswer(capacity: 512 + all * 160) { writer in
        writer.object(name) { writer in
            writer.member("period_beginning", period.lowerBound.spaced)
            writer.member("period_ending", period.upperBound.spaced)
            writer.member("num_hosts", all)
            writer.member("num_hosts_done", done.count)
            writer.member("num_hosts_running", 0)
            writer.member("num_hosts_not_run", open.count)
            writer.array("hosts_not_run") { writer in
                for host in open { writer.string(host.rawValue) }
            }
            writer.member("total_instances", done.reduce(0) { $0 + $1.instances })
            writer.member("total_errors", 0)
            writer.member(
                "overall_status",
                open.isEmpty ? "ALL hosts done. 0 errors." : "\(done.count) of \(all) hosts done. 0 errors.")
            writer.object("log") { writer in
                for audit in done {
                    writer.object(audit.host.rawValue) { writer in
                        writer.member("state", "DONE")
                        writer.member("instances", audit.instances)
                        writer.member("errors", 0)
                        writer.member(
                            "message",
                            "\(audit.instances) instances on \(audit.host) told at \(audit.finishedAt.iso8601)")
                    }
                }
            }
        }
    }
}
