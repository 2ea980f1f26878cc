import Configuration
import Crypto
import Database
import Foundation
import HTTP
import Model
import Scheduling
import Synchronization
import Testing

@testable import SchedulerService

/// What an attestation service was asked, and what it answers.
private final class PlayedAttestation: Sendable {
    struct Question: Sendable, Equatable {
        var hosts: [String]
        var proof: String?
    }

    private let questions = Mutex<[Question]>([])
    private let answer = Mutex((status: 200, body: "{}"))

    var asked: [Question] { questions.withLock { $0 } }

    func answers(_ body: String, status: Int = 200) { answer.withLock { $0 = (status, body) } }

    func handle(_ request: HTTPRequest) -> HTTPResponse {
        let hosts = (try? JSON(parsing: request.bytes))?["hosts"]?.list ?? []
        questions.withLock {
            $0.append(Question(hosts: hosts.compactMap(\.text), proof: request.headers["x-auth-blob"]))
        }
        let (status, body) = answer.withLock { $0 }
        return .text(status, body)
    }
}

@Suite("Hosts that are attested", .timeLimit(.minutes(1)))
struct AttestationTests {
    private let database: ControlDatabase
    private let table: HostTable

    init() async throws {
        database = try await ControlDatabase.open(path: nil)
        var options = SchedulingOptions()
        options.enabledFilters = ["TrustedFilter"]
        table = HostTable(
            database: database, downAfter: .seconds(25), zone: "nova", scheduler: try FilterScheduler(options),
            options: options, now: { start })
    }

    private func add(_ names: String...) async throws {
        for name in names { try await database.hosts.record(report(name), now: start) }
    }

    /// Where a guest that must be on a trusted host comes; what is said where it comes nowhere.
    private func place() async throws -> String? {
        var asked = request()
        asked.flavor = Flavor(
            id: FlavorID("1"), name: "safe", vcpus: 1, memoryMiB: 16, rootGiB: 0,
            extraSpecs: ["trust:trusted_host": "trusted"])
        switch try await table.select(asked) {
        case .placed(let selections): return selections.first?.first?.rawValue
        case .refused(let refusal): return refusal.reasons.first?.reason
        }
    }

    /// Runs the questions to a service over TLS for as long as `body` takes.
    private func withAttestation(
        validity: Int = 60, _ body: (PlayedAttestation, Attestation) async throws -> Void
    ) async throws {
        let authority = try CertificateAuthority.make(name: "Apus test")
        let (request, key) = try CertificateRequest.make(commonName: "attestation")
        let certificate = try authority.issue(
            requestPEM: request, names: ["127.0.0.1"], commonName: "attestation", validity: .seconds(3_600),
            now: Timestamp(microseconds: Int64(Date.now.timeIntervalSince1970 * 1e6)))
        let file = FileManager.default.temporaryDirectory.appending(path: "apus-attestation-\(UUID().uuidString).pem")
        try Data(authority.certificatePEM.utf8).write(to: file)
        defer { try? FileManager.default.removeItem(at: file) }
        let played = PlayedAttestation()
        var router = Router()
        router.on(.post, "/v1/PollHosts") { played.handle($0) }
        let server = HTTPServer(
            ServerConfiguration(
                name: "attestation", address: "127.0.0.1", port: 0,
                tls: ServerTLS(certificatePEM: certificate, privateKeyPEM: key)),
            router: router)
        try server.start()
        let configuration = try Configuration(
            options: SchedulerOptions.all,
            values: [
                "filter_scheduler.enabled_filters": "TrustedFilter",
                "trusted_computing.attestation_server": "127.0.0.1",
                "trusted_computing.attestation_port": "\(server.port)",
                "trusted_computing.attestation_api_url": "/v1",
                "trusted_computing.attestation_server_ca_file": file.path,
                "trusted_computing.attestation_auth_blob": "a proof",
                "trusted_computing.attestation_auth_timeout": "\(validity)",
            ])
        let attestation = try #require(try Attestation(configuration))
        let table = table
        let running = Task { await attestation.run(table) }
        let result: Result<Void, any Error>
        do { result = .success(try await body(played, attestation)) } catch { result = .failure(error) }
        running.cancel()
        await running.value
        await server.stop(grace: .zero)
        try result.get()
    }

    private func wait(for expected: String) async throws {
        while try await place() != expected { try await Task.sleep(for: .milliseconds(20)) }
    }

    @Test("Guests that need it come on hosts that the service trusts; it is asked for all of them, with the proof")
    func levels() async throws {
        try await add("a", "b")
        try await withAttestation { service, _ in
            service.answers(
                """
                {"hosts": [{"host_name": "a", "trust_lvl": "untrusted", "vtime": "2027-01-15T08:00:00Z"},
                {"host_name": "b", "trust_lvl": "trusted", "vtime": "2027-01-15T08:00:00Z"}]}
                """)
            try await wait(for: "b")
            #expect(service.asked.first == .init(hosts: ["a", "b"], proof: "a proof"))
        }
    }

    @Test("Nothing that the service cannot mean is believed; what it says next is")
    func rubbish() async throws {
        try await withAttestation { service, attestation in
            let good = #"{"hosts": [{"host_name": "a", "trust_lvl": "trusted"}]}"#
            for (status, body) in [
                (500, good), (403, good), (204, ""), (200, "nonsense"), (200, "[]"), (200, #"{"hosts": "a"}"#),
                (200, "{" + String(repeating: " ", count: 2 << 20) + String(good.dropFirst())),
            ] {
                service.answers(body, status: status)
                await #expect(throws: Failure.self) { _ = try await attestation.levels(of: [HostName("a")]) }
            }
            for body in [
                #"{"hosts": [1, {"host_name": "a"}, {"host_name": 1, "trust_lvl": "trusted"}]}"#,
                #"{"hosts": [{"host_name": "z", "trust_lvl": "trusted"}]}"#,
                #"{"hosts": [{"host_name": "a", "trust_lvl": "\#(String(repeating: "t", count: 65))"}]}"#,
            ] {
                service.answers(body)
                let none = try await attestation.levels(of: [HostName("a")])
                #expect(none == [:])
            }
            service.answers(good)
            let some = try await attestation.levels(of: [HostName("a"), HostName("b")])
            #expect(some == [HostName("a"): "trusted"])
            let before = service.asked.count
            let names = (0..<1_500).map { HostName("host-\($0)") }
            let none = try await attestation.levels(of: names)
            #expect(none == [:])
            let asked = service.asked[before...].filter { $0.hosts.first?.hasPrefix("host-") == true }
            #expect(asked.map(\.hosts.count) == [1_000, 500])
        }
    }

    @Test("A service that falls silent is believed for as long as it is configured, and no longer")
    func silence() async throws {
        try await add("a")
        try await withAttestation(validity: 3) { service, _ in
            service.answers(#"{"hosts": [{"host_name": "a", "trust_lvl": "trusted"}]}"#)
            try await wait(for: "a")
            service.answers("", status: 503)
            let silent = ContinuousClock.now
            try await wait(for: "not attested as trusted")
            #expect(silent.duration(to: .now) < .seconds(5))
        }
    }

    @Test("A host's report changes nothing of its level, and a host that comes later has its own")
    func reports() async throws {
        try await add("a")
        _ = try await table.names()
        await table.attest([HostName("a"): "untrusted", HostName("b"): "trusted"], until: .now + .seconds(60))
        #expect(try await place() == "not attested as trusted")
        try await add("b")
        #expect(try await place() == "b")
        try await database.hosts.record(report("b", sequence: 2, at: start + .seconds(1)), now: start)
        #expect(try await place() == "b")
        await table.attest([HostName("a"): "trusted"], until: .now + .seconds(60))
        #expect(try await place() == "a")
        await table.attest([HostName("a"): "trusted"], until: .now)
        #expect(try await place() == "not attested as trusted")
    }

    @Test("The filter without a service is refused at the start; without the filter none is asked")
    func configuration() throws {
        func attestation(_ values: [String: String]) throws -> Attestation? {
            try Attestation(Configuration(options: SchedulerOptions.all, values: values))
        }
        #expect(try attestation(["trusted_computing.attestation_server": "127.0.0.1"]) == nil)
        let failure = #expect(throws: Failure.self) {
            _ = try attestation(["filter_scheduler.enabled_filters": "TrustedFilter"])
        }
        #expect(failure?.kind == .invalidParameters)
    }
}
