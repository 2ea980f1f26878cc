import Foundation

/// A private PostgreSQL server for one test process: an unprivileged user's, on a socket in a temporary folder, without TCP.
///
/// A shell watches over it and reads from a pipe that this process holds: when the process ends, however it does, the
/// pipe closes, and the shell ends the server and removes the folder.
public final class PostgreSQLServer: Sendable {
    /// Why there is no server.
    public struct Failure: Error, CustomStringConvertible {
        public let description: String
    }

    private static let starting = Task { try await start() }

    /// The process's server; started at the first call, which takes seconds.
    public static func shared() async throws -> PostgreSQLServer { try await starting.value }

    private let folder: String
    private let programs: String
    private let watch: Pipe
    private let shell: Process

    private init(folder: String, programs: String, watch: Pipe, shell: Process) {
        (self.folder, self.programs, self.watch, self.shell) = (folder, programs, watch, shell)
    }

    /// Makes an empty database and gives its URL.
    public func makeDatabase() async throws -> String {
        let name = "d" + UUID().uuidString.replacingOccurrences(of: "-", with: "").lowercased()
        let tool = Process()
        tool.executableURL = URL(fileURLWithPath: programs + "/createdb")
        tool.arguments = ["--host", folder, "--username", "apus", "--template", "template0", name]
        let status = try await tool.ended()
        guard status == 0 else { throw Failure(description: "createdb ended with \(status)") }
        return "postgresql://apus@/\(name)?host=\(folder)"
    }

    /// Ends every connection to the database at `url`, as a server does that is shut down.
    public func endConnections(to url: String) async throws {
        try await execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '\(name(of: url))'")
    }

    /// Runs statements as an administrator, in a database of its own unless another is named.
    public func execute(_ sql: String, in database: String = "postgres") async throws {
        let tool = Process()
        tool.executableURL = URL(fileURLWithPath: programs + "/psql")
        tool.arguments = [
            "--host", folder, "--username", "apus", "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1",
            "--output", "/dev/null", "--command", sql, database,
        ]
        let status = try await tool.ended()
        guard status == 0 else { throw Failure(description: "psql ended with \(status)") }
    }

    /// Lets the sessions that begin from now on in the database at `url` see a clock that is so many seconds ahead of this
    /// machine's, as if the server were on another one. What they create stands in the schema `public`, as ever.
    public func setClock(of url: String, by seconds: Int) async throws {
        try await execute(
            """
            CREATE SCHEMA clock;
            CREATE FUNCTION clock.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
                'SELECT pg_catalog.clock_timestamp() + make_interval(secs => \(seconds))';
            GRANT USAGE ON SCHEMA clock TO PUBLIC;
            """, in: name(of: url))
        // What stands before `pg_catalog` hides what is in it; objects are made in the first schema that is not `clock`.
        try await execute("ALTER DATABASE \(name(of: url)) SET search_path = public, clock, pg_catalog")
    }

    private func name(of url: String) -> String {
        String(url.dropFirst("postgresql://apus@/".count).prefix { $0 != "?" })
    }

    private static let script = """
        trap '' INT TERM HUP
        folder=$1 programs=$2
        shift 2
        finish() {
            "$@" "$programs/pg_ctl" -D "$folder/data" -m immediate -w stop >/dev/null 2>&1 </dev/null
            rm -rf "$folder"
        }
        cd / || exit 1
        if [ $# -gt 0 ]; then chown "$server_user" "$folder" || exit 1; fi
        if "$@" "$programs/initdb" -D "$folder/data" -U apus -E UTF8 --locale=C --auth=trust --no-sync \\
            >"$folder/initdb.log" 2>&1 </dev/null &&
            "$@" "$programs/pg_ctl" -D "$folder/data" -w -t 60 -l "$folder/server.log" -o "-c listen_addresses= \\
                -c unix_socket_directories=$folder -c fsync=off -c full_page_writes=off -c max_connections=400 \\
                -c shared_buffers=32MB" start >/dev/null 2>&1 </dev/null
        then
            echo ready
            read -r _
        else
            tail -n 5 "$folder/initdb.log" "$folder/server.log" 2>&1 | tr '\\n' ' '
            echo
        fi
        finish "$@"
        """

    private static func start() async throws -> PostgreSQLServer {
        let programs = try findPrograms()
        // A socket's path has little room.
        let folder = "/tmp/apus-pg-\(UUID().uuidString.prefix(8))"
        guard mkdir(folder, 0o700) == 0 else { throw Failure(description: "\(folder) cannot be made") }
        let (watch, output) = (Pipe(), Pipe())
        let shell = Process()
        shell.executableURL = URL(fileURLWithPath: "/bin/sh")
        shell.arguments = ["-c", script, "sh", folder, programs] + (geteuid() == 0 ? unprivileged : [])
        shell.environment = ["PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "server_user": user, "LC_ALL": "C"]
        shell.standardInput = watch
        shell.standardOutput = output
        try shell.run()
        let line = await output.fileHandleForReading.firstLine()
        guard line == "ready" else { throw Failure(description: "no PostgreSQL server: \(line)") }
        return PostgreSQLServer(folder: folder, programs: programs, watch: watch, shell: shell)
    }

    /// The user that the distribution's package has made.
    private static let user = "postgres"
    private static let unprivileged = ["setpriv", "--reuid=\(user)", "--regid=\(user)", "--clear-groups"]

    /// The folder of the newest server's programs.
    private static func findPrograms() throws -> String {
        let root = "/usr/lib/postgresql"
        let versions = ((try? FileManager.default.contentsOfDirectory(atPath: root)) ?? []).compactMap { Int($0) }
        guard let newest = versions.max() else {
            throw Failure(description: "there is no PostgreSQL server in \(root): install the package postgresql")
        }
        return "\(root)/\(newest)/bin"
    }
}

extension Process {
    /// Runs the program and gives its status, without holding a thread of the cooperative pool.
    fileprivate func ended() async throws -> Int32 {
        try await withCheckedThrowingContinuation { continuation in
            terminationHandler = { continuation.resume(returning: $0.terminationStatus) }
            do {
                try run()
            } catch {
                terminationHandler = nil
                continuation.resume(throwing: error)
            }
        }
    }
}

extension FileHandle {
    /// What comes up to the first line's end, or to the end of all.
    fileprivate func firstLine() async -> String {
        await withCheckedContinuation { continuation in
            DispatchQueue.global().async {
                var line: [UInt8] = []
                while let byte = self.readData(ofLength: 1).first, byte != UInt8(ascii: "\n") { line.append(byte) }
                continuation.resume(returning: String(decoding: line, as: UTF8.self))
            }
        }
    }
}
