internal import Configuration
internal import HTTP
internal import Model
internal import SchedulerService
internal import Scheduling

extension Command {
    private static let setting = OptionSpec(
        name: "set", value: "SECTION.OPTION=VALUE",
        help: "Another value of one of the scheduler's options: filter_scheduler.ram_weight_multiplier=-1.",
        isRepeated: true)

    /// `apus scheduler …`
    static let scheduler = Command.group(
        "scheduler", "Why servers come where they come: explain, export, record, replay.",
        [
            .client(
                "explain", "Say why a server found no host, or what would become of a request.",
                details: """
                    With SERVER: what the scheduler said when it found no host for it; of one that has a host, where it \
                    would come now, worked out from the present fleet without it. With --hosts and --request: what \
                    every filter says of every host of the file, how each that passes weighs, and their order; no cloud \
                    is asked. `apus scheduler export` writes such a file of hosts.
                    """,
                arguments: [
                    ArgumentSpec(name: "SERVER", help: "The server's name or id.", isOptional: true)
                ],
                options: [
                    OptionSpec(name: "hosts", value: "FILE", help: "Hosts and aggregates (JSON)."),
                    OptionSpec(name: "request", value: "FILE", help: "What is asked for (JSON)."), setting,
                ], alone: explainFiles, explainServer),
            .client("export", "Print all hosts, aggregates and options as the file that explain and replay read.") {
                _, context in
                // A file for programs in any case.
                context.terminal.print(try await context.client.apus(.get, "/fleet"))
            },
            .client(
                "record", "Print what servers have asked of the scheduler as the trace that replay reads.",
                details: """
                    A line for each request and for each deletion, oldest first, from the records of the newest servers, \
                    deleted ones among them.
                    """,
                options: [
                    OptionSpec(name: "limit", value: "N", help: "How many servers, 1 to 100,000 (10,000).")
                ]
            ) { invocation, context in
                let limit = try invocation.number("limit", in: 1...100_000) ?? 10_000
                let trace = try await context.client.apus(.get, "/fleet/trace?limit=\(limit)")
                for event in trace["events"]?.list ?? [] {
                    context.terminal.print(String(decoding: event.serialized(), as: UTF8.self))
                }
            },
            Command(
                name: "replay", summary: "Run a trace of requests against a file of hosts.",
                details: """
                    Each line of the trace is {"request": {…}} or {"delete": "ID"}. Prints what was placed and refused, how \
                    full the hosts are then, and how long decisions took: try a weigher before you use it.
                    """,
                arguments: [ArgumentSpec(name: "TRACE", help: "The trace, a JSON object a line.", isOptional: true)],
                options: [
                    OptionSpec(name: "hosts", value: "FILE", help: "Hosts and aggregates (JSON)."),
                    OptionSpec(name: "generate", value: "N", help: "So many made-up requests in place of a trace."),
                    OptionSpec(name: "seed", value: "N", help: "Of what chance decides (1)."), setting,
                    OptionSpec(name: "json", help: "Print JSON instead of a table."),
                ], run: replayTrace),
        ])
}

/// Fleets may be large: 100,000 hosts are about 100 MB.
private let documentLimit = 1 << 30

private func document(_ path: String) throws -> JSON {
    guard let bytes = try readFile(path, limit: documentLimit) else {
        throw CommandError.failure("There is no file \(path).")
    }
    do throws(JSONError) { return try JSON(parsing: bytes) } catch {
        throw CommandError.failure("\(path) is no JSON: \(error)")
    }
}

/// Runs `body`; what it finds wrong in a document names the file.
private func reading<T>(_ path: String, _ body: () throws(DocumentError) -> T) throws -> T {
    do throws(DocumentError) { return try body() } catch { throw CommandError.failure("\(path): \(error)") }
}

/// A scheduler over the file's hosts, with the file's options and those of the command.
private func fileScheduler(_ path: String, _ invocation: Invocation) throws -> FilterScheduler {
    let parsed = try document(path)
    let fleet = try reading(path) { () throws(DocumentError) in try FleetDocument(parsed) }
    var values = fleet.options
    for text in invocation.all("set") {
        guard let equals = text.firstIndex(of: "=") else {
            throw CommandError.usage("--set takes SECTION.OPTION=VALUE, not '\(text)'.")
        }
        values[String(text[..<equals])] = String(text[text.index(after: equals)...])
    }
    return try scheduler(fleet.hosts, values)
}

/// A scheduler over hosts, with options by `section.option`.
func scheduler(_ hosts: [HostState], _ options: [String: String]) throws -> FilterScheduler {
    let configuration: Configuration
    do throws(ConfigurationError) {
        configuration = try Configuration(options: SchedulerOptions.all, values: options)
    } catch {
        throw CommandError.failure("\(error)")
    }
    var made: FilterScheduler
    do throws(UnknownFilter) {
        made = try FilterScheduler(configuration.schedulingOptions())
    } catch {
        throw CommandError.failure("filter_scheduler.enabled_filters: \(error)")
    }
    for host in hosts {
        made.update(host)
        made.setAggregates(of: host.name, host.aggregates, zone: host.availabilityZone)
    }
    return made
}

// MARK: - explain

/// Runs `apus scheduler explain --hosts FILE --request FILE`; false where a server was named.
@Sendable private func explainFiles(_ invocation: Invocation, _ terminal: Terminal) throws -> Bool {
    guard invocation.arguments.isEmpty else {
        if invocation.value("hosts") != nil || invocation.value("request") != nil || !invocation.all("set").isEmpty {
            throw CommandError.usage("A SERVER takes none of --hosts, --request and --set.")
        }
        return false
    }
    guard let hosts = invocation.value("hosts"), let path = invocation.value("request") else {
        throw CommandError.usage("A SERVER is wanted, or both of --hosts and --request.")
    }
    let table = try fileScheduler(hosts, invocation)
    let parsed = try document(path)
    let request = try reading(path) { () throws(DocumentError) in try PlacementRequest(document: parsed) }
    let explanation = table.explanation(of: request)
    if invocation.has("json") { terminal.print(explanation.json) } else { terminal.print(explanationText(explanation)) }
    return true
}

func explanationText(_ explanation: DecisionExplanation) -> String {
    var parts: [String] = []
    if let refusal = explanation.refusal {
        parts.append(refusal.message)
    } else {
        parts.append("\(explanation.order.count) of \(explanation.hosts.count) hosts pass.")
    }
    let shown = 100
    let byName = Dictionary(explanation.hosts.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
    var weights = Table(["RANK", "HOST", "WEIGHT", "OF WHICH"], numeric: [0, 2])
    for (rank, name) in explanation.order.prefix(shown).enumerated() {
        guard let host = byName[name] else { continue }
        let shares = host.weights.filter { $0.weighted != 0 }.map {
            "\($0.weigher) \(short($0.weighted)) (\(short($0.raw)))"
        }
        weights.add([
            String(rank + 1), name.rawValue, short(host.weight ?? 0),
            shares.isEmpty ? "" : shares.joined(separator: ", "),
        ])
    }
    if !weights.rows.isEmpty { parts.append(weights.text) }
    var refusals = Table(["HOST", "REFUSED BY", "REASON"])
    let refused = explanation.hosts.filter { !$0.passes }
    for host in refused.prefix(shown) {
        for verdict in host.verdicts {
            guard let rejection = verdict.rejection else { continue }
            let miss = rejection.shortage.map { " by \($0) \(rejection.unit)" } ?? ""
            refusals.add([host.name.rawValue, verdict.filter, rejection.reason + miss])
        }
    }
    if !refusals.rows.isEmpty { parts.append(refusals.text) }
    let hidden = max(0, refused.count - shown) + max(0, explanation.order.count - shown)
    if hidden > 0 { parts.append("\(hidden) more hosts: --json shows all.") }
    return parts.joined(separator: "\n\n")
}

/// With four decimals at most.
private func short(_ value: Double) -> String {
    guard abs(value) < 1e15 else { return String(value) }
    let rounded = (value * 10_000).rounded() / 10_000
    return rounded == rounded.rounded() ? String(Int(rounded)) : String(rounded)
}

/// `apus scheduler explain SERVER`
@Sendable private func explainServer(_ invocation: Invocation, _ context: ClientContext) async throws {
    let server = try await findServer(invocation.arguments[0], context.client)
    let name = server["name"]?.text ?? invocation.arguments[0]
    let fault = server["fault"] ?? .null
    let details = fault["details"]?.text ?? ""
    let reasons = details.split(separator: "\n").map(String.init)
    let host = server["OS-EXT-SRV-ATTR:host"]?.text
    var answer: [String: JSON] = [
        "id": server["id"] ?? .null, "name": .string(name), "status": server["status"] ?? .null,
        "host": host.map { .string($0) } ?? .null, "message": fault["message"] ?? .null,
        "reasons": .array(reasons.map { .string($0) }),
    ]
    var lines: [String] = []
    if let host { lines.append("\(name) is on \(host).") }
    let now = try await host == nil ? nil : PresentPlace.find(server["id"]?.text ?? "", name, context.client)
    if let message = fault["message"]?.text {
        lines.append(message)
        if reasons.isEmpty {
            if host == nil { lines.append("The scheduler has left no more than that.") }
        } else {
            var table = Table(["FILTER", "REASON"])
            for reason in reasons {
                let parts = reason.split(separator: ":", maxSplits: 1)
                table.add([String(parts[0]), parts.count > 1 ? String(parts[1].dropFirst()) : ""])
            }
            lines.append(table.text)
        }
    } else if host == nil {
        lines.append("\(name) has no host yet, and nothing has been refused: apus task list --server \(name)")
    }
    if let now {
        answer["now"] = now.json
        lines.append(now.text)
    }
    context.show(.object(answer), lines.joined(separator: "\n\n"))
}

// MARK: - replay

@Sendable private func replayTrace(_ invocation: Invocation, _ terminal: Terminal) async throws -> Int32 {
    guard let hosts = invocation.value("hosts") else { throw CommandError.usage("--hosts is wanted.") }
    let seed = try invocation.number("seed", in: 0...Int.max) ?? 1
    let count = try invocation.number("generate", in: 1...10_000_000)
    guard (count == nil) != invocation.arguments.isEmpty else {
        throw CommandError.usage("Either a TRACE or --generate is wanted.")
    }
    var replay = Replay(try fileScheduler(hosts, invocation))
    var generator = SeededGenerator(seed: UInt64(seed))
    var times: [Double] = []
    func run(_ event: TraceEvent) {
        let start = ContinuousClock.now
        if replay.run(event, using: &generator) != nil {
            times.append((ContinuousClock.now - start) / .milliseconds(1))
        }
    }
    if let count {
        for number in 1...count {
            try Task.checkCancellation()
            run(made(number, &generator))
        }
    } else {
        let path = invocation.arguments[0]
        guard let bytes = try readFile(path, limit: documentLimit) else {
            throw CommandError.failure("There is no file \(path).")
        }
        for (index, line) in bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).enumerated()
        where line.contains(where: { $0 != 32 && $0 != 13 && $0 != 9 }) {
            try Task.checkCancellation()
            let json: JSON
            do throws(JSONError) { json = try JSON(parsing: Array(line)) } catch {
                throw CommandError.failure("\(path): line \(index + 1) is no JSON: \(error)")
            }
            run(try reading(path) { () throws(DocumentError) in try TraceEvent(json, at: "line \(index + 1)") })
        }
    }
    let result = ReplayFigures(replay, times)
    if invocation.has("json") { terminal.print(result.json) } else { terminal.print(result.text) }
    return 0
}

/// Servers of some usual sizes; a quarter of what comes is the end of an earlier one.
private func made(_ number: Int, _ generator: inout SeededGenerator) -> TraceEvent {
    if number > 4, Int.random(in: 1...4, using: &generator) == 1 {
        return .delete(InstanceID("instance-\(Int.random(in: 1..<number, using: &generator))"))
    }
    let sizes = [(1, 512, 1), (1, 2_048, 20), (2, 4_096, 40), (4, 8_192, 80), (8, 16_384, 160)]
    let (vcpus, memory, disk) = sizes[Int.random(in: 0..<sizes.count, using: &generator)]
    let flavor = Flavor(
        id: FlavorID("made-\(vcpus)"), name: "made-\(vcpus)", vcpus: vcpus, memoryMiB: memory, rootGiB: disk)
    var request = PlacementRequest(
        instances: [InstanceID("instance-\(number)")], resources: Resources(flavor), projectID: ProjectID("made"),
        alternates: 2)
    (request.flavor, request.imageProperties) = (flavor, [:])
    return .request(request)
}

/// What a replay came to.
struct ReplayFigures {
    private let replay: Replay
    private let times: [Double]
    private let packing: [(String, Packing)]

    init(_ replay: Replay, _ times: [Double]) {
        (self.replay, self.times) = (replay, times.sorted())
        let hosts = replay.scheduler.hosts
        packing = [
            ("vcpus", Packing(hosts, \.vcpus, \.cpu)), ("memory", Packing(hosts, \.memoryMiB, \.memory)),
            ("disk", Packing(hosts, \.diskGiB, \.disk)),
        ].compactMap { name, found in found.map { (name, $0) } }
    }

    private func percentile(_ share: Double) -> Double {
        times.isEmpty ? 0 : times[min(times.count - 1, Int(Double(times.count) * share))]
    }

    private var refusals: [(PlacementRefusal.Reason, Int)] {
        replay.refusals.map { ($0.key, $0.value) }.sorted {
            ($1.1, $0.0.filter, $0.0.reason) < ($0.1, $1.0.filter, $1.0.reason)
        }
    }

    private var emptyHosts: Int { replay.scheduler.hosts.count { $0.instanceCount == 0 } }

    var json: JSON {
        [
            "requests": .integer(Int64(replay.requests)), "refused": .integer(Int64(replay.refusedRequests)),
            "placed_instances": .integer(Int64(replay.placedInstances)),
            "deleted_instances": .integer(Int64(replay.deletedInstances)),
            "missed_deletions": .integer(Int64(replay.missedDeletions)),
            "hosts": .integer(Int64(replay.scheduler.hosts.count)), "empty_hosts": .integer(Int64(emptyHosts)),
            "packing": .object(
                Dictionary(
                    packing.map { name, found in
                        (
                            name,
                            ["least": .number(found.least), "mean": .number(found.mean), "most": .number(found.most)]
                        )
                    }, uniquingKeysWith: { $1 })),
            "refusals": .array(
                refusals.map { reason, hosts in
                    [
                        "filter": .string(reason.filter), "reason": .string(reason.reason),
                        "hosts": .integer(Int64(hosts)),
                    ]
                }),
            "latency_ms": [
                "p50": .number(percentile(0.5)), "p99": .number(percentile(0.99)), "max": .number(times.last ?? 0),
            ],
        ]
    }

    var text: String {
        var facts = [
            ("requests", "\(replay.requests), \(replay.refusedRequests) of them refused"),
            ("servers", "\(replay.placedInstances) placed, \(replay.deletedInstances) deleted"),
            ("hosts", "\(replay.scheduler.hosts.count), \(emptyHosts) of them without a server"),
            (
                "decision",
                "p50 \(short(percentile(0.5))) ms, p99 \(short(percentile(0.99))) ms, most \(short(times.last ?? 0)) ms"
            ),
        ]
        if replay.missedDeletions > 0 {
            facts.append(("not there", "\(replay.missedDeletions) deletions of servers that were not there"))
        }
        var table = Table(["PROMISED", "LEAST", "MEAN", "MOST"], numeric: [1, 2, 3])
        for (name, found) in packing {
            table.add([name, share(found.least), share(found.mean), share(found.most)])
        }
        var parts = [Table.facts(facts), table.text]
        if !refusals.isEmpty {
            var why = Table(["REFUSED BY", "REASON", "HOSTS"], numeric: [2])
            for (reason, hosts) in refusals { why.add([reason.filter, reason.reason, String(hosts)]) }
            parts.append(why.text)
        }
        return parts.joined(separator: "\n\n")
    }

    private func share(_ value: Double) -> String { "\(short((value * 1_000).rounded() / 10)) %" }
}
