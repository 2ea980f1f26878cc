internal import Database
internal import HTTP
internal import Model
internal import RPC

/// `GET /apus/v1/hosts/{name}`: the host's record, its service, and from the host itself who holds what of it.
func showHost(
    _ request: HTTPRequest, _ database: ControlDatabase, _ conductor: ConductorLink, _ now: Timestamp
) async throws -> HTTPResponse {
    let name = HostName(request.parameters["name"] ?? "")
    let wanted = request.query["events"].map { Int($0) ?? -1 } ?? 20
    guard (0...DescribeClaims.Params.eventLimit).contains(wanted) else {
        throw APIError.badRequest("events: a number from 0 to \(DescribeClaims.Params.eventLimit)")
    }
    let record = try await database.hosts.find(name)
    let service = try await database.services.find(host: name, binary: "nova-compute")
    guard record != nil || service != nil else { throw APIError.notFound("Host \(name) could not be found.") }
    let claims: Result<DescribeClaims.Result, Failure>
    do {
        claims = .success(try await conductor.claims(of: name, events: wanted))
    } catch let failure as Failure {
        // The record is worth showing even when the host is out of reach.
        claims = .failure(failure)
    }
    return jsonAnswer(capacity: 4_096) { writer in
        writer.object("host") { writer in
            writer.member("name", name.rawValue)
            if let service { write(service, to: &writer) }
            if let record { write(record, now, to: &writer) }
            switch claims {
            case .success(let found):
                writer.member("claims_error", nil as String?)
                write(found, to: &writer)
            case .failure(let failure): writer.member("claims_error", failure.message)
            }
        }
    }
}

private func write(_ service: ServiceRecord, to writer: inout JSONWriter) {
    writer.object("service") { writer in
        writer.member("id", service.uuid)
        writer.member("is_disabled", service.isDisabled)
        writer.member("disabled_reason", service.disabledReason)
        writer.member("is_forced_down", service.isForcedDown)
        writer.member("last_seen_at", service.lastSeenAt?.iso8601)
        writer.member("dead_at", service.deadAt?.iso8601)
        writer.member("dead_evidence", service.deadEvidence)
    }
}

private func write(_ record: HostRecord, _ now: Timestamp, to writer: inout JSONWriter) {
    let report = record.report
    writer.object("report") { writer in
        writer.member("uuid", report.uuid)
        writer.member("sequence", report.sequence)
        writer.member("revision", record.revision)
        writer.member("updated_at", record.updatedAt.iso8601)
        writer.member("uptime_seconds", report.uptime(at: now))
        write("total", report.total, to: &writer)
        write("reserved", report.reserved, to: &writer)
        write("used", report.used, to: &writer)
        writer.object("allocation_ratios") { writer in
            writer.member("vcpus", report.ratios.cpu)
            writer.member("memory_mib", report.ratios.memory)
            writer.member("disk_gib", report.ratios.disk)
        }
        writer.member("disk_available_least_gib", report.diskAvailableLeastGiB)
        writer.member("shared_storage", report.sharedStorage)
        writer.member("running_instances", report.runningInstances)
        writer.member("workload", report.workload)
        writer.member("io_workload", report.ioWorkload)
        writer.member("failed_builds", report.failedBuilds)
        writer.array("traits") { writer in
            for trait in report.traits ?? [] { writer.value(.string(trait)) }
        }
        writer.array("metrics") { writer in
            for metric in report.metrics ?? [] {
                writer.object { writer in
                    writer.member("name", metric.name)
                    writer.member("value", metric.value)
                    writer.member("source", metric.source)
                    writer.member("measured_at", metric.measuredAt.iso8601)
                }
            }
        }
    }
}

private func write(_ found: DescribeClaims.Result, to writer: inout JSONWriter) {
    writer.object("now") { writer in
        write("total", found.total, to: &writer)
        write("reserved", found.reserved, to: &writer)
        write("used", found.used, to: &writer)
        write("limit", found.limit, to: &writer)
    }
    writer.array("claims") { writer in
        for holding in found.holdings {
            writer.object { writer in
                writer.member("id", holding.claim.rawValue)
                writer.member("instance_id", holding.instance.rawValue)
                write("resources", holding.resources, to: &writer)
                writer.member("since", holding.since.iso8601)
                writer.member("remark", holding.remark)
            }
        }
    }
    writer.array("events") { writer in
        for event in found.events {
            writer.object { writer in
                writer.member("at", event.at.iso8601Microseconds)
                writer.member("change", event.change.rawValue)
                writer.member("claim_id", event.claim.rawValue)
                writer.member("instance_id", event.instance.rawValue)
                write("resources", event.resources, to: &writer)
            }
        }
    }
}

private func write(_ name: String, _ resources: Resources, to writer: inout JSONWriter) {
    writer.object(name) { writer in
        writer.member("vcpus", resources.vcpus)
        writer.member("memory_mib", resources.memoryMiB)
        writer.member("disk_gib", resources.diskGiB)
    }
}
