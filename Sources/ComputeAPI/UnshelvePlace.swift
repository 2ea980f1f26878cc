internal import Database
internal import Model

/// Where an offloaded server is to come back: in a zone (from 2.77 on), or on a host (from 2.91 on).
struct UnshelvePlace: Sendable {
    /// The outer optional says whether a zone was spoken of; null (from 2.91 on) takes the server out of its zone.
    let zone: String??
    let host: HostName?

    init(_ action: ServerActionCall) throws(APIError) {
        let call = action.call
        guard call.isAtLeast(77), !action.argument.isNull else {
            try action.requireNoArgument()
            (zone, host) = (nil, nil)
            return
        }
        var fields = try action.fields()
        if call.isAtLeast(91) {
            zone = try fields.nullableText("availability_zone", length: 1...255)
            host = try fields.text("host", length: 1...255).map { HostName($0) }
        } else {
            let text = try fields.text("availability_zone", length: 1...255)
            (zone, host) = (text.map { .some($0) }, nil)
        }
        try fields.finish()
        guard zone != nil || host != nil else {
            throw .badRequest("Invalid input for unshelve: availability_zone is a required property.")
        }
    }

    /// Throws 403 for a host that the caller may not name, 400 for a zone or host that there is not, and 409 for a
    /// server that has its host still.
    func requireKnown(_ server: Instance, _ call: ComputeCall, _ parts: ComputeParts) async throws {
        guard zone != nil || host != nil else { return }
        guard server.vmState == .shelvedOffloaded else {
            throw APIError.conflict(
                "Unshelving the server with availability_zone or host is supported only for SHELVED_OFFLOADED "
                    + "instances.")
        }
        if let host {
            try call.require("os-shelve:unshelve_to_host")
            try await requireComputeHost(host, parts)
        }
        guard let named = zone ?? nil else { return }
        try await requireZone(named, parts)
        guard let host else { return }
        let actual = try await parts.database.aggregates.table().zones[host] ?? parts.settings.availabilityZone
        guard actual == named else {
            throw APIError.conflict("Host \(host) is in the availability zone \(actual), not in \(named).")
        }
    }

    func apply(to instance: inout Instance) {
        if let zone { instance.availabilityZone = zone }
        // What was asked for when it was made has been done.
        instance.destination = host.map { RequestedDestination(host: $0, node: nil, isForced: false) }
    }
}
