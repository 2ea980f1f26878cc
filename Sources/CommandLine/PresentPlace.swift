internal import HTTP
internal import Model
internal import Scheduling

/// Where a server would come if it were placed now: worked out here from the fleet as it is, with the server taken out.
/// What was decided when it was placed nobody has kept.
struct PresentPlace {
    private let name: String
    /// Where the server is.
    private let host: HostName
    private let explanation: DecisionExplanation
    /// Whether its host still counts processors, pages or devices as taken that the server itself has.
    private let isHardwareCounted: Bool

    /// Asks the cloud for its fleet and for what the server asks. `nil` for a server that has left its host meanwhile.
    static func find(_ id: String, _ name: String, _ client: CloudClient) async throws -> PresentPlace? {
        let server = try await client.apus(.get, "/fleet/servers/\(id)")
        return try PresentPlace(name, server, fleet: try await client.apus(.get, "/fleet"))
    }

    /// - Parameters: what `GET /fleet/servers/{id}` and `GET /fleet` answer.
    init?(_ name: String, _ server: JSON, fleet: JSON) throws {
        guard let host = server["host"]?.text.map({ HostName($0) }) else { return nil }
        let request: PlacementRequest
        var table: FilterScheduler
        do {
            request = try PlacementRequest(document: server["request"] ?? .null, at: "request")
            let document = try FleetDocument(fleet)
            table = try scheduler(document.hosts, document.options)
        } catch let error as DocumentError {
            throw CommandError.failure("The cloud's fleet cannot be read by this program: \(error)")
        }
        table.takeOut(request, from: host)
        (self.name, self.host, explanation) = (name, host, table.explanation(of: request))
        isHardwareCounted = request.asksForHardware
    }

    private var own: DecisionExplanation.Host? { explanation.hosts.first { $0.name == host } }

    var json: JSON {
        [
            "computed_from": "present_fleet", "host": explanation.order.first.map { .string($0.rawValue) } ?? .null,
            "own_hardware_counted": .bool(isHardwareCounted), "explanation": explanation.json,
        ]
    }

    var text: String {
        var parts = [
            "What follows is computed from the fleet as it is now, without \(name). It is not the decision that was made "
                + "when \(name) was placed."
        ]
        if let first = explanation.order.first {
            let rank = explanation.order.firstIndex(of: host).map { "\($0 + 1) of \(explanation.order.count)" }
            parts.append(
                first == host
                    ? "It would come to \(host) again."
                    : "It would come to \(first). \(host) is "
                        + (rank.map { "number \($0)." } ?? "refused."))
        } else {
            parts.append("It would come nowhere.")
        }
        if let own {
            var table = Table(["FILTER", "OF \(host)"])
            for verdict in own.verdicts {
                let refusal = verdict.rejection.map { rejection in
                    rejection.reason + (rejection.shortage.map { " by \($0) \(rejection.unit)" } ?? "")
                }
                table.add([verdict.filter, refusal ?? "passes"])
            }
            if !table.rows.isEmpty { parts.append(table.text) }
        } else {
            parts.append("\(host) is not in the fleet any more.")
        }
        if isHardwareCounted {
            parts.append(
                "Processors, pages and devices that \(name) has for itself are still counted as taken on \(host).")
        }
        parts.append(explanationText(explanation))
        return parts.joined(separator: "\n\n")
    }
}
