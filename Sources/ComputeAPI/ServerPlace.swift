internal import Database
internal import Model

/// Throws 400 when there is no such host with an agent.
func requireComputeHost(_ host: HostName, _ parts: ComputeParts) async throws {
    guard try await parts.database.services.find(host: host, binary: "nova-compute") != nil else {
        throw APIError.badRequest("Compute host \(host) could not be found.")
    }
}

/// Throws 400 when no host is in such a zone, and it is not that of the hosts that are in none.
func requireZone(_ zone: String, _ parts: ComputeParts) async throws {
    let zones = try await parts.database.aggregates.table().zones
    guard zone == parts.settings.availabilityZone || zones.values.contains(zone) else {
        throw APIError.badRequest("The requested availability zone is not available")
    }
}
