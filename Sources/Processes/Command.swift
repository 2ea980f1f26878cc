/// A child program to run to its end.
public struct Command: Sendable {
    /// What the child may use at most; set before its program begins.
    public struct Limits: Sendable, Hashable {
        /// Bytes of address space.
        public var addressSpaceBytes: UInt64?
        /// Seconds of processor time, after which the kernel kills the child.
        public var cpuSeconds: UInt64?

        public init(addressSpaceBytes: UInt64? = nil, cpuSeconds: UInt64? = nil) {
            (self.addressSpaceBytes, self.cpuSeconds) = (addressSpaceBytes, cpuSeconds)
        }

        public static let none = Limits()

        /// prlimit's options.
        var options: [String] {
            [addressSpaceBytes.map { "--as=\($0):\($0)" }, cpuSeconds.map { "--cpu=\($0):\($0)" }].compactMap { $0 }
        }
    }

    public var path: String
    public var arguments: [String]
    /// `nil`: this process's own.
    public var environment: [String: String]?
    /// `nil`: this process's own.
    public var directory: String?
    /// `nil`: the child reads the end of its input at once.
    public var input: [UInt8]?
    public var limits: Limits
    /// From the child's start; then its process group gets TERM, and KILL when `grace` is over.
    public var timeout: Duration
    /// Between TERM and KILL, at a timeout or cancellation.
    public var grace = Duration.seconds(2)
    /// Bytes kept of each of the two outputs; what comes after is read and dropped.
    public var outputLimit: Int

    /// `path` is a path, or a name that is looked up as `find(program:)` does. No shell is involved.
    public init(
        _ path: String, _ arguments: [String], environment: [String: String]? = nil, directory: String? = nil,
        input: [UInt8]? = nil, limits: Limits = .none, timeout: Duration, outputLimit: Int = 1 << 20
    ) {
        (self.path, self.arguments, self.environment, self.directory) = (path, arguments, environment, directory)
        (self.input, self.limits, self.timeout, self.outputLimit) = (input, limits, timeout, outputLimit)
    }
}

/// How a child ended.
public struct CommandResult: Sendable, Hashable {
    /// The exit code, or 128 + the signal that ended the child.
    public let status: Int32
    public let standardOutput: [UInt8]
    public let standardError: [UInt8]
    /// Whether one of the outputs was longer than the limit.
    public let isTruncated: Bool

    public var outputText: String { String(decoding: standardOutput, as: UTF8.self) }
    public var errorText: String { String(decoding: standardError, as: UTF8.self) }
}

/// Why a child gave no result.
public enum ProcessError: Error, Sendable, Hashable, CustomStringConvertible {
    case notFound(program: String)
    case notStarted(program: String, reason: String)
    case timedOut(program: String, after: Duration, errorText: String)
    case cancelled(program: String)

    public var description: String {
        switch self {
        case .notFound(let program): "\(program): no such program"
        case .notStarted(let program, let reason): "\(program): could not be started: \(reason)"
        case .timedOut(let program, let after, let text):
            "\(program): did not end within \(after)" + (text.isEmpty ? "" : ": \(text)")
        case .cancelled(let program): "\(program): cancelled"
        }
    }
}
