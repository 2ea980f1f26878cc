internal import CSystem
internal import Glibc
internal import Telemetry

/// The common frame of the daemons: flags, configuration, logs, signals, the service manager's readiness protocol.
public struct ServiceProgram: Sendable {
    /// A flag beyond the common ones.
    public struct Flag: Sendable {
        public let name: String
        /// What the value is called in the help; `nil` for a flag without a value.
        public let value: String?
        public let help: String

        public init(_ name: String, value: String?, help: String) {
            (self.name, self.value, self.help) = (name, value, help)
        }
    }

    /// What the daemon's body gets.
    public struct Context: Sendable {
        public let configuration: Configuration
        /// The values of the program's own flags, by name; "" for a flag without a value.
        public let flags: [String: String]

        /// Tells the service manager that the daemon serves (`READY=1`), and what it does.
        public func ready(_ status: String) { notify("READY=1\nSTATUS=\(status)") }
    }

    private let name: String
    private let summary: String
    private let version: String
    private let options: [AnyOption]
    private let extraFlags: [Flag]

    public init(name: String, summary: String, version: String, options: [AnyOption], flags: [Flag] = []) {
        (self.name, self.summary, self.version) = (name, summary, version)
        (self.options, extraFlags) = (options, flags)
    }

    private static let commonFlags = [
        Flag("--config-file", value: "FILE", help: "Read this INI file; may be repeated, later files win."),
        Flag("--set", value: "SECTION.OPTION=VALUE", help: "Override one option; may be repeated."),
        Flag("--print-config", value: nil, help: "Print every option, its value and where it came from, and end."),
        Flag("--debug", value: nil, help: "Log everything that is done."),
        Flag("--log-format", value: "text|journald|json", help: "How log lines look; journald under systemd."),
        Flag("--version", value: nil, help: "Print the version and end."),
        Flag("--help", value: nil, help: "Print this and end."),
    ]

    /// Reads the arguments and runs `body` until it returns, throws, or SIGTERM or SIGINT cancel it; then ends the
    /// process: 0 when all is well, 1 after an error (one line on standard error), 2 for wrong usage.
    public func run(
        _ arguments: [String] = CommandLine.arguments, _ body: @escaping @Sendable (Context) async throws -> Void
    ) async -> Never {
        let parsed: Parsed
        do {
            parsed = try parse(arguments)
        } catch {
            say("\(name): \(error.text)\nTry '\(name) --help'.\n", to: 2)
            exit(2)
        }
        if parsed.flags["--help"] != nil {
            say(help, to: 1)
            exit(0)
        }
        if parsed.flags["--version"] != nil {
            say("\(name) \(version)\n", to: 1)
            exit(0)
        }
        let configuration: Configuration
        do {
            configuration = try Configuration.load(
                files: parsed.files, overrides: parsed.overrides, options: options)
        } catch {
            say("\(name): \(error)\n", to: 2)
            exit(1)
        }
        if parsed.flags["--print-config"] != nil {
            say(configuration.printed(), to: 1)
            exit(0)
        }
        LogSystem.configure(
            minimum: parsed.flags["--debug"] == nil ? .info : .debug, format: parsed.format)
        let log = Logger(name)
        for warning in configuration.warnings { log.warning("configuration", ["warning": warning]) }
        let context = Context(configuration: configuration, flags: parsed.flags)
        do {
            try await untilSignalled { try await body(context) }
        } catch {
            say("\(name): \(error)\n", to: 2)
            exit(1)
        }
        notify("STOPPING=1")
        exit(0)
    }

    private struct Parsed {
        var files: [String] = []
        var overrides: [String] = []
        var flags: [String: String] = [:]
        var format: LogFormat = getenv("JOURNAL_STREAM") == nil ? .text : .journald
    }

    private struct UsageError: Error { let text: String }

    private func parse(_ arguments: [String]) throws(UsageError) -> Parsed {
        var parsed = Parsed()
        var rest = arguments.dropFirst()
        while let argument = rest.popFirst() {
            let parts = argument.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let flagName = String(parts[0])
            guard let flag = (Self.commonFlags + extraFlags).first(where: { $0.name == flagName }) else {
                throw UsageError(text: "unknown argument '\(argument)'")
            }
            var value = ""
            if flag.value != nil {
                if parts.count == 2 {
                    value = String(parts[1])
                } else if let next = rest.popFirst() {
                    value = next
                } else {
                    throw UsageError(text: "\(flagName) needs a value")
                }
            } else if parts.count == 2 {
                throw UsageError(text: "\(flagName) takes no value")
            }
            switch flagName {
            case "--config-file": parsed.files.append(value)
            case "--set": parsed.overrides.append(value)
            case "--log-format":
                guard let format = LogFormat(named: value) else {
                    throw UsageError(text: "--log-format is text, journald or json")
                }
                parsed.format = format
            default: parsed.flags[flagName] = value
            }
        }
        let standard = "/etc/apus/apus.conf"
        if parsed.files.isEmpty, access(standard, F_OK) == 0 { parsed.files = [standard] }
        return parsed
    }

    private var help: String {
        let rows = (extraFlags + Self.commonFlags).map { flag in
            (flag.name + (flag.value.map { " \($0)" } ?? ""), flag.help)
        }
        let width = rows.map { $0.0.count }.max() ?? 0
        return "\(name) — \(summary)\n\n"
            + rows.map { "  \($0.0)\(String(repeating: " ", count: width - $0.0.count + 2))\($0.1)\n" }.joined()
    }
}

extension LogFormat {
    fileprivate init?(named text: String) {
        switch text {
        case "text": self = .text
        case "journald": self = .journald
        case "json": self = .json
        default: return nil
        }
    }
}

/// Runs `body` until it ends or SIGTERM or SIGINT arrive, which cancel it; a second signal ends the process at once.
/// An error that follows from the cancellation is none.
public func untilSignalled(_ body: @escaping @Sendable () async throws -> Void) async throws {
    let signals = try SignalPipe()
    try await withThrowingTaskGroup(of: Bool.self) { group in
        group.addTask {
            try await body()
            return false
        }
        group.addTask {
            for await _ in signals.stream { return true }
            return false
        }
        let wasSignalled = try await group.next() ?? false
        group.cancelAll()
        do {
            while try await group.next() != nil {}
        } catch {
            if !wasSignalled { throw error }
        }
    }
}

/// Where the handler writes. Sendable: set once before the handlers are installed, then only read.
private nonisolated(unsafe) var signalDescriptor: Int32 = -1

// A signal handler may only call async-signal-safe functions: write(2) and _exit(2) are.
private func handleSignal(_ number: Int32) {
    var byte = UInt8(truncatingIfNeeded: number)
    if write(signalDescriptor, &byte, 1) != 1 { _exit(128 + number) }
}

private struct SignalPipe {
    let stream: AsyncStream<Int32>

    struct Unavailable: Error {}

    init() throws {
        var ends: [Int32] = [-1, -1]
        guard apus_pipe(&ends) == 0 else { throw Unavailable() }
        signalDescriptor = ends[1]
        signal(SIGPIPE, SIG_IGN)
        signal(SIGTERM, handleSignal)
        signal(SIGINT, handleSignal)
        let (stream, continuation) = AsyncStream.makeStream(of: Int32.self, bufferingPolicy: .bufferingNewest(4))
        self.stream = stream
        let executor = BlockingExecutor(name: "signals", threads: 1)
        let reading = ends[0]
        let waiting = Task(executorPreference: executor) {
            var byte: UInt8 = 0
            var count = 0
            while read(reading, &byte, 1) == 1 {
                count += 1
                // Whoever sends a second one does not want to wait for the graceful end.
                if count > 1 { exit(128 + Int32(byte)) }
                continuation.yield(Int32(byte))
            }
        }
        continuation.onTermination = { _ in waiting.cancel() }
    }
}

/// One datagram to the service manager, if there is one (`sd_notify(3)`'s protocol).
private func notify(_ message: String) {
    guard let path = getenv("NOTIFY_SOCKET").map({ String(cString: $0) }), path.hasPrefix("/") || path.hasPrefix("@")
    else { return }
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(path.utf8)
    guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else { return }
    withUnsafeMutableBytes(of: &address.sun_path) { target in
        target.copyBytes(from: bytes)
        if bytes.first == UInt8(ascii: "@") { target[0] = 0 }
    }
    let descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { return }
    defer { close(descriptor) }
    let length = socklen_t(MemoryLayout<sa_family_t>.size + bytes.count)
    let text = Array(message.utf8)
    _ = withUnsafePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            sendto(descriptor, text, text.count, Int32(MSG_NOSIGNAL), $0, length)
        }
    }
}

private func say(_ text: String, to descriptor: Int32) {
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
        let written = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
        guard written > 0 else { return }
        rest = rest.dropFirst(written)
    }
}
