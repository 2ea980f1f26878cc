#if PostgreSQL
    import Foundation
    import Synchronization
    import Testing

    /// A server that speaks as much of PostgreSQL's protocol as it takes to ask for a password, and then refuses it.
    private final class Asker: Sendable {
        struct Visit: Sendable {
            var password: String
            /// What the process list shows of those that had been started when the password came.
            var shown: [String]
        }

        let port: UInt16
        private let socket: Int32
        private let visits = Mutex<[Visit]>([])
        private let watched = Mutex<[Int32]>([])

        init() throws {
            socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
            var length = socklen_t(MemoryLayout<sockaddr_in>.size)
            let fd = socket
            let isBound = withUnsafeMutablePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(fd, $0, length) == 0 && listen(fd, 16) == 0 && getsockname(fd, $0, &length) == 0
                }
            }
            guard isBound else { throw CocoaError(.fileReadUnknown) }
            port = UInt16(bigEndian: address.sin_port)
            Thread.detachNewThread { [self] in
                while true {
                    let visitor = accept(socket, nil, nil)
                    guard visitor >= 0 else { return }
                    serve(visitor)
                    close(visitor)
                }
            }
        }

        var all: [Visit] { visits.withLock { $0 } }
        func watch(_ pid: Int32) { watched.withLock { $0.append(pid) } }
        func end() { shutdown(socket, Int32(SHUT_RDWR)) }

        private func serve(_ visitor: Int32) {
            guard receive(visitor, hasType: false) != nil else { return }
            // Authentication: the password in plain text.
            send(visitor, "R", [0, 0, 0, 3])
            guard let answer = receive(visitor, hasType: true) else { return }
            let password = String(decoding: answer.prefix { $0 != 0 }, as: UTF8.self)
            let shown = watched.withLock { $0 }.flatMap { pid in
                ["cmdline", "environ", "comm"].compactMap { name in
                    FileManager.default.contents(atPath: "/proc/\(pid)/\(name)")
                        .map { String(decoding: $0, as: UTF8.self) }
                }
            }
            visits.withLock { $0.append(Visit(password: password, shown: shown)) }
            let fields = ["SFATAL", "VFATAL", "C28P01", "Mpassword authentication failed for user \"apus\""]
            send(visitor, "E", fields.flatMap { Array($0.utf8) + [0] } + [0])
        }

        private func receive(_ visitor: Int32, hasType: Bool) -> [UInt8]? {
            guard let head = bytes(visitor, hasType ? 5 : 4) else { return nil }
            let length = head.suffix(4).reduce(0) { $0 << 8 | Int($1) }
            return length >= 4 && length < 10_000 ? bytes(visitor, length - 4) : nil
        }

        private func bytes(_ visitor: Int32, _ count: Int) -> [UInt8]? {
            var all = [UInt8](repeating: 0, count: count)
            var got = 0
            while got < count {
                let read = recv(visitor, &all[got], count - got, 0)
                guard read > 0 else { return nil }
                got += read
            }
            return all
        }

        private func send(_ visitor: Int32, _ type: Character, _ body: [UInt8]) {
            let length = UInt32(body.count + 4).bigEndian
            let message = Array(String(type).utf8) + withUnsafeBytes(of: length) { Array($0) } + body
            _ = Glibc.send(visitor, message, message.count, Int32(MSG_NOSIGNAL))
        }
    }

    @Suite("The database's password", .timeLimit(.minutes(2)))
    struct PasswordSecrecyTests {
        /// Where the programs stand: beside the tests.
        private func program(_ name: String) throws -> String {
            let arguments = ProcessInfo.processInfo.arguments
            let bundle = arguments.first { $0.contains(".xctest") } ?? arguments[0]
            let path = bundle.components(separatedBy: "/").prefix { !$0.hasSuffix(".xctest") }
            let folder = path.joined(separator: "/")
            let found = "\(folder)/\(name)"
            try #require(FileManager.default.isExecutableFile(atPath: found), "there is no program \(found)")
            return found
        }

        /// Runs a program to its end; gives its status and all that it has said.
        private func run(
            _ name: String, _ arguments: [String], started: @escaping (Int32) -> Void
        ) async throws -> (status: Int32, said: String) {
            let process = Process()
            process.executableURL = URL(fileURLWithPath: try program(name))
            process.arguments = arguments
            process.environment = ["PATH": "/usr/bin:/bin"]
            let output = Pipe()
            process.standardOutput = output
            process.standardError = output
            process.standardInput = FileHandle.nullDevice
            try process.run()
            started(process.processIdentifier)
            let said = await withCheckedContinuation { continuation in
                Thread.detachNewThread {
                    continuation.resume(returning: output.fileHandleForReading.readDataToEndOfFile())
                }
            }
            process.waitUntilExit()
            return (process.terminationStatus, String(decoding: said, as: UTF8.self))
        }

        @Test(
            "A start that the server refuses tells the password to nobody but the server: no log, no file, no process list",
            arguments: ["apus-conductor", "apus-api", "apus-scheduler"])
        func refusedStart(name: String) async throws {
            let secret = "s3cret-\(UUID().uuidString)"
            let folder = try TemporaryFolder()
            let asker = try Asker()
            defer { asker.end() }
            let (passwords, file) = (folder.file("passwords"), folder.file("apus.conf"))
            try FileManager.default.createDirectory(atPath: folder.file("state"), withIntermediateDirectories: false)
            for (path, text) in [
                (passwords, "127.0.0.1:\(asker.port):*:apus:\(secret)\n"),
                (
                    file,
                    """
                    [DEFAULT]
                    state_path = \(folder.file("state"))
                    host = control
                    [database]
                    connection = postgresql://apus@127.0.0.1:\(asker.port)/apus?passfile=\(passwords)&sslmode=disable&\
                    gssencmode=disable
                    """
                ),
            ] {
                try text.write(toFile: path, atomically: false, encoding: .utf8)
                try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: path)
            }
            let (status, said) = try await run(name, ["--config-file", file, "--debug"]) { asker.watch($0) }
            #expect(status == 1)
            #expect(said.contains("password authentication failed"), "\(said)")
            #expect(!said.contains(secret), "\(said)")
            // It was read and sent, so there was something to betray.
            let visits = asker.all
            #expect(!visits.isEmpty && visits.allSatisfy { $0.password == secret })
            let shown = visits.flatMap(\.shown)
            #expect(shown.contains { $0.contains("--config-file") } && shown.allSatisfy { !$0.contains(secret) })
            for path in FileManager.default.enumerator(atPath: folder.path)?.allObjects as? [String] ?? [] {
                guard path != "passwords", let data = FileManager.default.contents(atPath: folder.file(path)) else {
                    continue
                }
                #expect(!String(decoding: data, as: UTF8.self).contains(secret), "\(path)")
            }
        }

        @Test(
            "A password in the URL itself is refused, and not repeated",
            arguments: ["apus:SECRET@127.0.0.1:1/apus", "apus@127.0.0.1:1/apus?password=SECRET"])
        func inTheURL(place: String) async throws {
            let secret = "s3cret-\(UUID().uuidString)"
            let folder = try TemporaryFolder()
            let file = folder.file("apus.conf")
            let url = "postgresql://" + place.replacingOccurrences(of: "SECRET", with: secret)
            try "[DEFAULT]\nstate_path = \(folder.path)\n[database]\nconnection = \(url)\n".write(
                toFile: file, atomically: false, encoding: .utf8)
            let (status, said) = try await run("apus-conductor", ["--config-file", file, "--debug"]) { _ in }
            #expect(status == 1 && !said.isEmpty)
            #expect(!said.contains(secret), "\(said)")
        }
    }
#endif
