internal import Database
internal import HTTP
internal import Model
internal import Telemetry

/// An operator's word that a host is dead.
extension AdminRoutes {
    mutating func addHostDeath(downAfter: Duration) {
        let (database, now) = (database, now)
        add(.post, "/hosts/{name}/confirm-dead", rule: "apus:hosts") { request in
            let host = HostName(request.parameters["name"] ?? "")
            var (fields, _) = try BodyFields.body(request.bytes, member: "confirm_dead")
            let evidence = try fields.requiredText("evidence", length: 1...1_024)
            try fields.finish()
            guard evidence.contains(where: { !$0.isWhitespace }) else {
                throw APIError.badRequest("Invalid input for confirm_dead: 'evidence' says nothing.")
            }
            let service: ServiceRecord
            do {
                service = try await database.services.confirmDead(
                    host, evidence: evidence, downAfter: downAfter, now: now())
            } catch StoreError.notFound {
                throw APIError.notFound("Compute host \(host) could not be found.")
            } catch StoreError.alive {
                throw APIError.conflict(
                    "The agent of host \(host) is heard of: it is not dead. If its guests are to go all the same, declare "
                        + "it down first: `openstack compute service set --down \(host) nova-compute`.")
            }
            Logger("api").notice("a host is declared dead", ["host": host, "evidence": evidence])
            return jsonAnswer { writer in
                writer.object("host") { writer in
                    writer.member("name", host.rawValue)
                    writer.member("dead_at", service.deadAt?.iso8601)
                    writer.member("dead_evidence", service.deadEvidence)
                }
            }
        }
    }
}
