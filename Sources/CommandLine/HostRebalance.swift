internal import HTTP
internal import Model
internal import Scheduling

extension Command {
    private static let mostMoves = 1_000

    /// `apus host rebalance`
    static let rebalance = Command.client(
        "rebalance", "Say which servers to move where, so that hosts are more alike in how full they are.",
        details: """
            Nothing is moved: only the dry run exists. The scheduler's own filters say where a server may go, and its \
            weighers, with their multipliers, where it is better placed than where it is. vCPUs, memory and disk count \
            by cpu_, ram_ and disk_weight_multiplier, as far as these are positive. Servers that are locked, have a \
            task under way, are neither active nor stopped, or have devices or a TPM of their host, are left alone, and \
            so are hosts that are disabled or down.
            """,
        arguments: [],
        options: [
            OptionSpec(name: "dry-run", help: "Only say what would be moved; wanted, for there is no other run."),
            OptionSpec(name: "moves", value: "N", help: "How many moves at most, 1 to \(mostMoves) (20)."),
            OptionSpec(name: "zone", value: "NAME", help: "Only among the hosts of this availability zone."),
            OptionSpec(name: "aggregate", value: "NAME", help: "Only among the hosts of this aggregate."),
        ],
        alone: { invocation, _ in
            // Before a cloud is looked for.
            guard invocation.has("dry-run") else {
                throw CommandError.usage(
                    "Only the dry run exists: apus host rebalance --dry-run. Servers are moved by apus server migrate.")
            }
            _ = try limits(invocation)
            return false
        },
        { invocation, context in
            let scope = Rebalancer.Scope(zone: invocation.value("zone"), aggregate: invocation.value("aggregate"))
            let proposal = try await RebalanceProposal.find(scope, try limits(invocation), context.client)
            context.show(proposal.json, proposal.text)
        })

    private static func limits(_ invocation: Invocation) throws(CommandError) -> Rebalancer.Limits {
        var limits = Rebalancer.Limits()
        if let moves = try invocation.number("moves", in: 1...mostMoves) { limits.moves = moves }
        return limits
    }
}

/// What `apus host rebalance --dry-run` says: worked out here from the fleet as it is.
struct RebalanceProposal {
    private let scope: Rebalancer.Scope
    private let limits: Rebalancer.Limits
    private let plan: RebalancePlan

    /// Asks the cloud for its fleet, and for every server that is on a host.
    static func find(
        _ scope: Rebalancer.Scope, _ limits: Rebalancer.Limits, _ client: CloudClient
    ) async throws -> RebalanceProposal {
        let fleet = try await client.apus(.get, "/fleet")
        var servers: [JSON] = []
        while true {
            let marker = servers.last?["id"]?.text
            let page = try await client.apus(
                .get, "/fleet/servers", query: marker.map { [("marker", $0)] } ?? [])
            let rows = page["servers"]?.list ?? []
            servers += rows
            guard page["servers_links"]?.list?.isEmpty == false, !rows.isEmpty else { break }
        }
        return try RebalanceProposal(scope, limits, fleet: fleet, servers: servers)
    }

    /// - Parameters:
    ///   - fleet: what `GET /fleet` answers.
    ///   - servers: those of all pages of `GET /fleet/servers`.
    init(_ scope: Rebalancer.Scope, _ limits: Rebalancer.Limits, fleet: JSON, servers: [JSON]) throws {
        let table: FilterScheduler
        var placed: [PlacedServer] = []
        do {
            let document = try FleetDocument(fleet)
            table = try scheduler(document.hosts, document.options)
            for (index, server) in servers.enumerated() {
                placed.append(try PlacedServer(document: server, at: "servers[\(index)]"))
            }
        } catch let error as DocumentError {
            throw CommandError.failure("The cloud's fleet cannot be read by this program: \(error)")
        }
        guard table.hosts.contains(where: scope.contains) else {
            let places = [
                scope.zone.map { "in the availability zone \($0)" }, scope.aggregate.map { "in the aggregate \($0)" },
            ].compactMap { $0 }
            throw CommandError.failure(
                places.isEmpty ? "No host has reported yet." : "No host is \(places.joined(separator: " and ")).")
        }
        var rebalancer = Rebalancer(table, servers: placed, scope: scope, limits: limits)
        (self.scope, self.limits, plan) = (scope, limits, rebalancer.plan())
    }

    // MARK: For programs

    var json: JSON {
        [
            "dry_run": true, "zone": scope.zone.map { .string($0) } ?? .null,
            "aggregate": scope.aggregate.map { .string($0) } ?? .null,
            "most_moves": .integer(Int64(limits.moves)), "least_gap": .number(limits.leastGap),
            "moves": .array(plan.moves.map(\.json)), "end": .string(plan.end.rawValue),
            "spread": [
                "before": plan.before.json, "after": plan.after.json,
                "weights": .object(Self.members(plan.weights) { .number($0) }),
            ],
            "hosts": .array(
                plan.hosts.map { host in
                    [
                        "host": .string(host.name.rawValue),
                        "before": .object(Self.members(host.before) { .number($0) }),
                        "after": .object(Self.members(host.after) { .number($0) }),
                    ]
                }),
            "unusable_hosts": .array(plan.unusableHosts.map { .string($0.rawValue) }),
            "servers": .integer(Int64(plan.servers)),
            "left_alone": .object(
                Dictionary(
                    uniqueKeysWithValues: plan.obstacles.map { ($0.key.rawValue, .integer(Int64($0.value))) })),
            "without_gain": .object(
                Dictionary(uniqueKeysWithValues: plan.unmoved.map { ($0.key.rawValue, .integer(Int64($0.value))) })),
        ]
    }

    fileprivate static func members<T>(_ values: [LoadResource: T], _ form: (T) -> JSON) -> [String: JSON] {
        Dictionary(uniqueKeysWithValues: values.map { ($0.key.rawValue, form($0.value)) })
    }

    // MARK: For people

    var text: String {
        var parts = [headline]
        if !plan.moves.isEmpty {
            parts.append(moves)
            parts.append(why)
        }
        if let spread { parts.append(spread) }
        if let hosts { parts.append(hosts) }
        parts += remarks
        return parts.joined(separator: "\n\n")
    }

    private var headline: String {
        let (before, after) = (percent(plan.before.overall), percent(plan.after.overall))
        if !plan.moves.isEmpty {
            let moves = plan.moves.count == 1 ? "1 move lowers" : "\(plan.moves.count) moves lower"
            return "A dry run: nothing is moved. \(moves) the spread of load from \(before) to \(after)."
                + (plan.end == .limit ? " More would lower it further: --moves." : "")
        }
        switch plan.end {
        case .packing:
            return """
                Nothing to even out: the scheduler spreads servers by none of vCPUs, memory and disk (no positive \
                cpu_, ram_ or disk_weight_multiplier).
                """
        case .tooFewHosts: return "Nothing to even out: fewer than two hosts here can have servers."
        case .limit, .exhausted: return "Nothing lowers the spread of load, which is \(before)."
        }
    }

    /// In the order in which they are to be made.
    private var moves: String {
        var table = Table(
            ["MOVE", "SERVER", "ID", "FROM", "TO", "VCPUS", "MEMORY MIB", "DISK GIB", "SPREAD", "AFTER"],
            numeric: [0, 5, 6, 7, 8, 9])
        for (index, move) in plan.moves.enumerated() {
            table.add([
                String(index + 1), move.name, move.server.rawValue, move.from.rawValue, move.to.rawValue,
                String(move.resources.vcpus), String(move.resources.memoryMiB), String(move.resources.diskGiB),
                percent(move.spreadBefore), percent(move.spreadAfter),
            ])
        }
        return table.text
    }

    /// What the weighers say for each move.
    private var why: String {
        var table = Table(["MOVE", "WEIGHT FROM", "WEIGHT TO", "OF WHICH"], numeric: [0, 1, 2])
        for (index, move) in plan.moves.enumerated() {
            let differences = zip(move.weightsFrom, move.weightsTo).compactMap { own, other -> String? in
                let difference = other.weighted - own.weighted
                guard abs(difference) >= 0.000_05 else { return nil }
                return "\(own.weigher) \(difference > 0 ? "+" : "")\(fixed(difference, 4))"
            }
            table.add([
                String(index + 1), fixed(move.weightFrom, 4), fixed(move.weightTo, 4),
                differences.joined(separator: ", "),
            ])
        }
        return table.text
    }

    private var spread: String? {
        var table = Table(
            ["LOAD", "COUNTS", "DEVIATION", "AFTER", "LEAST", "AFTER", "MEAN", "AFTER", "MOST", "AFTER"],
            numeric: Set(1...9))
        for resource in LoadResource.allCases {
            guard let before = plan.before.figures[resource], let after = plan.after.figures[resource] else { continue }
            table.add([
                resource.rawValue, fixed(plan.weights[resource] ?? 0, 2), percent(before.deviation),
                percent(after.deviation), percent(before.least), percent(after.least), percent(before.mean),
                percent(after.mean), percent(before.most), percent(after.most),
            ])
        }
        return table.rows.isEmpty ? nil : table.text
    }

    /// Those that a move touches; all of them where there is none and they are few.
    private var hosts: String? {
        let shown = 100
        let touched = Set(plan.moves.flatMap { [$0.from, $0.to] })
        let wanted = plan.hosts.filter { touched.isEmpty || touched.contains($0.name) }.prefix(shown)
        guard !wanted.isEmpty else { return nil }
        let headings = LoadResource.allCases.flatMap { [$0.rawValue.uppercased(), "AFTER"] }
        var table = Table(["HOST"] + headings, numeric: Set(1...headings.count))
        for host in wanted {
            table.add(
                [host.name.rawValue]
                    + LoadResource.allCases.flatMap { resource in
                        [host.before[resource].map(percent) ?? "", host.after[resource].map(percent) ?? ""]
                    })
        }
        let hidden = plan.hosts.count - wanted.count
        guard hidden > 0 else { return table.text }
        return table.text + "\n\(hidden) more host\(hidden == 1 ? "" : "s"): --json shows all."
    }

    private var remarks: [String] {
        var parts: [String] = []
        if !plan.obstacles.isEmpty {
            let counts = MoveObstacle.allCases.compactMap { obstacle in
                plan.obstacles[obstacle].map { "\($0) \(obstacle.text)" }
            }
            parts.append("Left alone of \(plan.servers) servers: \(counts.joined(separator: ", ")).")
        }
        if !plan.unusableHosts.isEmpty {
            let (shown, count) = (10, plan.unusableHosts.count)
            parts.append(
                "Disabled or down, and so not counted: "
                    + plan.unusableHosts.prefix(shown).map(\.rawValue).joined(separator: ", ")
                    + (count > shown ? " and \(count - shown) more" : "") + ".")
        }
        let reasons = RebalancePlan.Reason.allCases.compactMap { reason in
            plan.unmoved[reason].map { "\($0) \(Self.text(reason))" }
        }
        if !reasons.isEmpty { parts.append("Not moved: \(reasons.joined(separator: ", ")).") }
        if !plan.moves.isEmpty {
            parts.append(
                "Make them in this order: apus server migrate ID --host TO (the server is off meanwhile), then confirm."
            )
        }
        return parts
    }

    private static func text(_ reason: RebalancePlan.Reason) -> String {
        switch reason {
        case .noGain: "that would bring no two hosts nearer to each other by enough"
        case .refused: "whose filters let no other host pass"
        case .preferred: "which the weighers put where they are"
        case .noGainThere: "for which the hosts that the weighers put first are too full"
        }
    }
}

/// Of a share: `43.8 %`.
private func percent(_ share: Double) -> String { "\(fixed(share * 100, 1)) %" }

extension RebalancePlan.Move {
    fileprivate var json: JSON {
        func weights(_ weights: [DecisionExplanation.Weight]) -> JSON {
            .array(
                weights.map { weight in
                    [
                        "weigher": .string(weight.weigher), "raw": .number(weight.raw),
                        "normalized": .number(weight.normalized), "multiplier": .number(weight.multiplier),
                        "weighted": .number(weight.weighted),
                    ]
                })
        }
        return [
            "server": .string(server.rawValue), "name": .string(name), "from": .string(from.rawValue),
            "to": .string(to.rawValue),
            "resources": [
                "vcpus": .integer(Int64(resources.vcpus)), "memory_mib": .integer(Int64(resources.memoryMiB)),
                "disk_gib": .integer(Int64(resources.diskGiB)),
            ],
            "weight_from": .number(weightFrom), "weight_to": .number(weightTo), "weights_from": weights(weightsFrom),
            "weights_to": weights(weightsTo), "spread_before": .number(spreadBefore),
            "spread_after": .number(spreadAfter),
        ]
    }
}

extension LoadSpread {
    fileprivate var json: JSON {
        [
            "overall": .number(overall),
            "resources": .object(
                RebalanceProposal.members(figures) { figures in
                    [
                        "deviation": .number(figures.deviation), "least": .number(figures.least),
                        "mean": .number(figures.mean), "most": .number(figures.most),
                    ]
                }),
        ]
    }
}
