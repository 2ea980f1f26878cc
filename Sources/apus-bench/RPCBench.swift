internal import Crypto
internal import Database
internal import HTTP
internal import Model
internal import RPC
internal import Synchronization

/// How many calls a second a conductor answers, for `deploy/bench rpc`: heartbeats, each with its host's credential, and
/// hosts' reports, each on disk before it is answered.
enum RPCBench {
    private static let connections = 4

    /// `--database FILE` of the conductor at `--url URL`, `--seconds N` (10), `--table`. Returns the exit code.
    static func run(_ arguments: [String]) async -> Int32 {
        do {
            let options = try BenchOptions(arguments, known: ["--database", "--url", "--seconds"])
            let length = Duration.seconds(try options.number("--seconds", default: 10))
            let database = try await ControlDatabase.open(.file(try options.text("--database")))
            let http = HTTPClient()
            var clients: [(host: HostName, client: RPCClient)] = []
            for number in 0..<connections {
                let host = HostName("bench-\(number)")
                let secret = try await admit(host, database)
                let peer = PeerAddress(
                    url: try options.text("--url"), credential: PeerCredential(peer: "host:\(host)", secret: secret))
                clients.append((host, RPCClient(http: http, peers: [peer])))
            }
            await database.close()
            let given = ["connections": "\(connections)"]
            let beats = try await rate(clients, length) { host, client, number in
                _ = try await client.call(
                    Heartbeat.self,
                    .init(host: host, binary: "nova-compute", version: AgentVersion.current, sequence: number))
            }
            options.report("rpc.calls_per_s", beats.rate, "1/s", given)
            options.report("rpc.p99_ms", percentile(beats.milliseconds, 99), "ms", given)
            let casts = try await rate(clients, length) { host, client, number in
                _ = try await client.call(ReportHost.self, .init(report: report(of: host, number)))
            }
            options.report("rpc.casts_per_s", casts.rate, "1/s", given)
            options.report("rpc.cast_p99_ms", percentile(casts.milliseconds, 99), "ms", given)
            await http.shutdown()
            return 0
        } catch {
            return complain("\(error)")
        }
    }

    /// The secret that the host shows.
    private static func admit(_ host: HostName, _ database: ControlDatabase) async throws -> String {
        let (token, secret) = (digest(.sha256, of: randomBytes(24)), Hex.encode(randomBytes(24)))
        let now = database.now()
        try await database.credentials.enroll(host, tokenHash: token, expiresAt: now + .seconds(60), now: now)
        let admission = HostAdmission(
            url: "http://127.0.0.1:1", hostSecretHash: digest(.sha256, of: Array(secret.utf8)),
            conductorSecret: "unused",
            certificateFingerprint: nil)
        guard try await database.credentials.admit(host, tokenHash: token, admission, now: now) else {
            throw Failure(.internalError, "host \(host) is not admitted")
        }
        return secret
    }

    /// Calls over all connections, one at a time over each, for so long.
    private static func rate(
        _ clients: [(host: HostName, client: RPCClient)], _ length: Duration,
        _ call: @escaping @Sendable (HostName, RPCClient, Int64) async throws -> Void
    ) async throws -> (rate: Double, milliseconds: [Double]) {
        let start = ContinuousClock.now
        let times = try await withThrowingTaskGroup(of: [Double].self) { group in
            for (host, client) in clients {
                group.addTask {
                    var (times, number): ([Double], Int64) = ([], 0)
                    while ContinuousClock.now - start < length {
                        number += 1
                        let began = ContinuousClock.now
                        try await call(host, client, number)
                        times.append((ContinuousClock.now - began).inSeconds * 1_000)
                    }
                    return times
                }
            }
            return try await group.reduce(into: []) { $0 += $1 }
        }
        return (Double(times.count) / (ContinuousClock.now - start).inSeconds, times)
    }

    private static func report(of host: HostName, _ number: Int64) -> HostReport {
        HostReport(
            host: host, uuid: "uuid-\(host)", hypervisorHostname: host.rawValue, hypervisorType: "QEMU",
            hypervisorVersion: 7_002_000, hostAddress: "127.0.0.1",
            total: Resources(vcpus: 8, memoryMiB: 16_384, diskGiB: 100), reserved: .zero, used: .zero,
            ratios: AllocationRatios(), diskAvailableLeastGiB: 100, runningInstances: 0, workload: 0, cpuModel: nil,
            cpuVendor: nil, architecture: "x86_64", cpuTopology: CPUTopology(), cpuFeatures: [], uptimeSeconds: number,
            sequence: number, measuredAt: Timestamp(seconds: number))
    }
}
