internal import Configuration
internal import HTTP
internal import Model
internal import RPC
internal import Telemetry

/// Asks the attestation service (`[trusted_computing]`) for what it holds of the hosts, again and again, so that no decision
/// waits for it.
///
/// Hosts are called what their credentials say. Nova asks by the node's name, which the host's own report gives: one that
/// is not to be trusted could take a trusted one's.
struct Attestation: Sendable {
    private static let filter = "TrustedFilter"
    private static let timeout = Duration.seconds(10)
    /// A request names no more, so that an answer stays small.
    private static let batch = 1_000

    /// How long an answer is believed.
    let validity: Duration
    private let url: String
    private let headers: HTTPFields
    private let http: HTTPClient
    private let log = Logger("attestation")
    private let polls = Metrics.shared.counter(
        "scheduler_attestation_polls_total", help: "Questions to the attestation service, by result.")

    /// `nil` where no filter asks for it.
    ///
    /// - Throws: `.invalidParameters` when a filter asks for it and it has no address.
    init?(_ configuration: Configuration) throws(Failure) {
        guard configuration[SchedulerOptions.enabledFilters].contains(Self.filter) else { return nil }
        let server = configuration[SchedulerOptions.attestationServer]
        guard !server.isEmpty else {
            throw Failure(
                .invalidParameters, "\(Self.filter) is enabled, and [trusted_computing] attestation_server is empty")
        }
        let host = server.contains(":") && !server.hasPrefix("[") ? "[\(server)]" : server
        let port = configuration[SchedulerOptions.attestationPort]
        url = "https://\(host):\(port)\(configuration[SchedulerOptions.attestationAPI])/PollHosts"
        var headers: HTTPFields = ["Content-Type": "application/json", "Accept": "application/json"]
        let blob = configuration[SchedulerOptions.attestationBlob]
        if !blob.isEmpty { headers["x-auth-blob"] = blob }
        self.headers = headers
        validity = configuration[SchedulerOptions.attestationValidity]
        let authority = configuration[SchedulerOptions.attestationAuthority]
        http = HTTPClient(
            tls: ClientTLS(
                caPath: authority.isEmpty ? nil : authority,
                verifyPeer: !configuration[SchedulerOptions.attestationInsecure]))
    }

    /// Tells `table` the levels until it is cancelled. A service that does not answer is asked again; what it said last
    /// holds for `validity` and no longer.
    func run(_ table: HostTable) async {
        var isHeard = true
        while !Task.isCancelled {
            do {
                let hosts = try await table.names()
                // Counted from before the question: an answer is never believed for longer than it says.
                let asked = ContinuousClock.now
                await table.attest(try await levels(of: hosts), until: asked + validity)
                polls.increment(labels: [("result", "ok")])
                if !isHeard { log.notice("the attestation service answers again") }
                isHeard = true
            } catch {
                if Task.isCancelled { break }
                polls.increment(labels: [("result", "failed")])
                if isHeard {
                    log.warning(
                        "hosts are not attested; none is trusted once the last answer is old",
                        ["error": LoggedError(error)])
                }
                isHeard = false
            }
            let pause = isHeard ? max(.seconds(1), validity / 3) : .seconds(1)
            do { try await AlarmClock().sleep(for: pause) } catch { break }
        }
        await http.shutdown()
    }

    /// What the service says of `hosts`; those that it does not name are not in it.
    func levels(of hosts: [HostName]) async throws -> [HostName: String] {
        var found: [HostName: String] = [:]
        var rest = hosts[...]
        while !rest.isEmpty {
            let asked = Set(rest.prefix(Self.batch))
            rest = rest.dropFirst(Self.batch)
            for (host, level) in try await poll(asked) where asked.contains(host) { found[host] = level }
        }
        return found
    }

    private func poll(_ asked: Set<HostName>) async throws -> [(host: HostName, level: String)] {
        let body: JSON = ["hosts": .array(asked.map(\.rawValue).sorted().map { .string($0) })]
        let response: ClientResponse
        do {
            response = try await http.send(
                ClientRequest(
                    method: .post, url: url, headers: headers, body: .bytes(body.serialized()), timeout: Self.timeout,
                    responseLimit: 1 << 20))
        } catch {
            throw error.failure
        }
        guard [200, 201, 202].contains(response.status) else {
            throw Failure(.unreachable, "the attestation service answered \(response.status)")
        }
        guard let hosts = (try? JSON(parsing: response.body))?["hosts"]?.list else {
            throw Failure(.unreachable, "the attestation service's answer has no list of hosts")
        }
        return hosts.compactMap { entry in
            guard let host = entry["host_name"]?.text, let level = entry["trust_lvl"]?.text, level.utf8.count <= 64
            else { return nil }
            return (HostName(host), level)
        }
    }
}
