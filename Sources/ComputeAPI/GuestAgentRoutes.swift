internal import Database
internal import HTTP
internal import Model
internal import RPC

/// `GET /apus/v1/servers/{id}/guest-agent`: whether the agent in the guest answers its host, and in what time.
extension AdminRoutes {
    mutating func addGuestAgent() {
        let (instances, conductor) = (database.instances, conductor)
        addOpen(.get, "/servers/{id}/guest-agent") { request, caller in
            let id = request.parameters["id"] ?? ""
            guard isUUID(id), let server = try await instances.find(InstanceID(id.lowercased())),
                server.projectID == caller.projectID || caller.isAdmin
            else { throw APIError.server(id) }
            try Policy.require("apus:guest-agent", caller)
            guard server.host != nil, server.powerState == .running else {
                throw APIError.conflict(
                    "Cannot 'ping_guest_agent' instance \(server.id): its guest does not run.")
            }
            let found = try await conductor.pingGuestAgent(server.id)
            return jsonAnswer(capacity: 64) { writer in
                writer.object("guest_agent") {
                    $0.member("answers", found.isAnswering)
                    $0.member("milliseconds", found.milliseconds)
                }
            }
        }
    }
}
