import Configuration
import Database
import Foundation
import HTTP
import Identity
import Model
import Synchronization
import Testing

@testable import ComputeAPI

@Suite("service_down_time of the API")
struct ServiceDownTimeTests {
    private static let start = Timestamp(seconds: 1_800_000_000)

    /// What `os-services` says of an agent so long after its heartbeat, in a service with this configuration file.
    private func states(_ file: String, after ages: [Duration]) async throws -> [String?] {
        let folder = NSTemporaryDirectory() + "down-time-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try "[api]\nlisten = 127.0.0.1:0\n[DEFAULT]\nstate_path = \(folder)\n\(file)\n".write(
            toFile: folder + "/apus.conf", atomically: true, encoding: .utf8)
        let configuration = try Configuration.load(
            files: [folder + "/apus.conf"], overrides: [], options: CommonOptions.all + APIService.options)
        let moment = Mutex(Self.start)
        let now: @Sendable () -> Timestamp = { moment.withLock { $0 } }
        let database = try await ControlDatabase.open(path: nil, now: now)
        let service = try await APIService(
            configuration: configuration, database: database, hostName: HostName("control"), now: now)
        _ = try await service.identity.bootstrap(adminPassword: "secret")
        try await database.services.record([
            ServiceHeartbeat(host: HostName("kvm1"), binary: "nova-compute", version: 1, at: Self.start)
        ])
        let http = HTTPClient()
        let url = "http://127.0.0.1:\(service.port)"
        let domain: JSON = ["id": "default"]
        let login: JSON = [
            "auth": [
                "identity": [
                    "methods": ["password"],
                    "password": ["user": ["name": "admin", "password": "secret", "domain": domain]],
                ],
                "scope": ["project": ["name": "admin", "domain": domain]],
            ]
        ]
        let session = try await http.send(
            ClientRequest(
                method: .post, url: url + "/identity/v3/auth/tokens",
                headers: ["Content-Type": "application/json"], body: .bytes(login.serialized())))
        let token = try #require(session.headers["X-Subject-Token"])
        var found: [String?] = []
        for age in ages {
            moment.withLock { $0 = Self.start + age }
            let answer = try await http.send(
                ClientRequest(
                    method: .get, url: url + "/compute/v2.1/os-services?binary=nova-compute",
                    headers: ["X-Auth-Token": token]))
            found.append(try JSON(parsing: answer.body)["services"]?[0]?["state"]?.text)
        }
        await http.shutdown()
        let life = Task { try await service.run() }
        life.cancel()
        _ = await life.result
        return found
    }

    @Test(
        "An agent is down when its heartbeat is older than the file says, or 25 seconds",
        arguments: [("service_down_time = 3", 3), ("service_down_time = 600", 600), ("", 25)])
    func limit(file: String, seconds: Int) async throws {
        let ages = [Duration.zero, .seconds(seconds), .seconds(seconds) + .microseconds(1)]
        #expect(try await states(file, after: ages) == ["up", "up", "down"])
    }
}
