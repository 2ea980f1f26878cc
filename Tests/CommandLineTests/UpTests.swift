import Configuration
import Foundation
import HTTP
import Synchronization
import Testing

@testable import CommandLine

@Suite("apus up")
struct UpTests {
    private func invocation(_ words: [String]) throws -> Invocation {
        try Invocation(words, options: Command.up.options, arguments: [])
    }

    private func withFolder<Result>(_ body: (String) async throws -> Result) async throws -> Result {
        let folder = FileManager.default.temporaryDirectory.appending(path: "apus-up-\(UUID().uuidString)").path()
        try makeFolder(folder, mode: 0o711)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        return try await body(folder)
    }

    @Test("Flags become options, and the roles are told of each other's addresses")
    func settings() async throws {
        try await withFolder { folder in
            let file = "\(folder)/empty.conf"
            try writePrivateFile(file, "")
            let words = [
                "--config-file", file, "--state-path", folder, "--api-port", "1", "--conductor-port", "2",
                "--scheduler-port", "3", "--agent-port", "4", "--network", "bridge:br0",
            ]
            let settings = try UpSettings(try invocation(words)).connected()
            #expect(settings.statePath == folder)
            #expect(settings.instancesPath == "\(folder)/instances")
            #expect(settings.listens.map(\.address.port) == [1, 2, 3, 4])
            for (key, value) in [
                ("api.conductor_urls", "http://127.0.0.1:2"), ("conductor.scheduler_urls", "http://127.0.0.1:3"),
                ("scheduler.conductor_urls", "http://127.0.0.1:2"), ("image.data_url", "http://127.0.0.1:1"),
                ("compute.network", "bridge:br0"),
            ] {
                let parts = key.split(separator: ".")
                let section = settings.configuration.printed().split(separator: "[\(parts[0])]").last ?? ""
                #expect(section.contains("\(parts[1]) = \(value)"), "\(key)")
            }
        }
    }

    @Test("What listens beyond this machine is reached by https, unless plaintext is allowed")
    func secure() throws {
        let words = ["--set", "conductor.listen=0.0.0.0:8781"]
        #expect(try UpSettings(try invocation(words)).url(of: "conductor") == "https://127.0.0.1:8781")
        let plain = words + ["--set", "apus.allow_plaintext=true"]
        #expect(try UpSettings(try invocation(plain)).url(of: "conductor") == "http://127.0.0.1:8781")
    }

    @Test("Port 0 becomes a number before anything listens, a different one for each role")
    func ports() throws {
        let words = ["api", "conductor", "scheduler", "agent"].flatMap { ["--\($0)-port", "0"] }
        let ports = try UpSettings(try invocation(words)).connected().listens.map(\.address.port)
        #expect(ports.count == 4)
        #expect(!ports.contains(0))
    }

    @Test("A relative state path is refused")
    func relative() {
        #expect(throws: CommandError.usage("--state-path takes an absolute path, not 'x'.")) {
            _ = try UpSettings(try invocation(["--state-path", "x"]))
        }
    }

    @Test("The started process gets the words of the starting one without those about the start")
    func words() throws {
        let found = try invocation(
            ["--detach", "--state-path", "/s", "--log-file", "/l", "--debug", "--log-file=/l"].dropLast())
        let left = Command.up.options.filter { ["detach", "log-file"].contains($0.name) }
        #expect(found.words(without: left) == ["--state-path", "/s", "--debug"])
    }

    @Test("A second process on the same state is told who holds it; the lock ends with its holder")
    func lock() async throws {
        try await withFolder { folder in
            do {
                let first = try PidFile(statePath: folder)
                #expect(PidFile.runningProcess(statePath: folder) == getpid())
                #expect {
                    _ = try PidFile(statePath: folder)
                } throws: { error in
                    (error as? PidFile.Held)?.description.contains("Process \(getpid()) (") == true
                }
                _ = consume first
            }
            #expect(PidFile.runningProcess(statePath: folder) == nil)
            _ = try PidFile(statePath: folder)
        }
    }

    @Test("A port in use names the port, who has it, and the flag that changes it")
    func portInUse() async throws {
        let server = HTTPServer(ServerConfiguration(name: "test"), router: Router())
        try server.start()
        let settings = try UpSettings(try invocation(["--api-port", "\(server.port)"]))
        let text = UpFailure.explain(
            HTTPServerError.portInUse(address: "127.0.0.1", port: server.port), settings: settings)
        await server.stop(grace: .zero)
        #expect(text.hasPrefix("127.0.0.1:\(settings.listens[0].address.port) is in use by Process \(getpid()) ("))
        #expect(text.contains("--api-port"))
    }

    @Test("The login is written for its owner only, in both forms")
    func login() async throws {
        try await withFolder { folder in
            let made = AdminCredentials(
                password: AdminCredentials.makePassword(), authURL: "http://127.0.0.1:1/identity/v3")
            try made.write(to: folder)
            for name in ["openrc", "clouds.yaml"] {
                let attributes = try FileManager.default.attributesOfItem(atPath: "\(folder)/\(name)")
                #expect(attributes[.posixPermissions] as? Int == 0o600)
            }
            #expect(try AdminCredentials.savedPassword(in: folder) == made.password)
            #expect(AdminCredentials.makePassword() != made.password)
        }
    }

    @Test("Roles are stopped one after the other, the last started first")
    func order() async {
        let ended = Mutex<[String]>([])
        let group = RoleGroup()
        for role in ["a", "b", "c"] {
            group.start(role) {
                let (stream, _) = AsyncStream.makeStream(of: Void.self)
                for await _ in stream {}
                ended.withLock { $0.append(role) }
            }
        }
        await group.stop()
        #expect(ended.withLock { $0 } == ["c", "b", "a"])
    }

    @Test("A role that ends by itself is named, and one that fails gives its error")
    func early() async {
        let group = RoleGroup()
        group.start("api") {}
        await #expect { try await RoleGroup.firstEnd(of: [group]) } throws: { error in
            (error as? RoleGroup.EndedEarly)?.role == "api"
        }
        let failing = RoleGroup()
        failing.start("agent") { throw CommandError.failure("no") }
        await #expect(throws: CommandError.failure("no")) { try await RoleGroup.firstEnd(of: [failing]) }
        await group.stop()
        await failing.stop()
    }
}
