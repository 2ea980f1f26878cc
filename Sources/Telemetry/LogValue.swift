public import Model

/// How grave a log line is. Normal operation stays below `info`; a state change a person acts on is `notice`.
public enum LogLevel: Int, Comparable, Sendable, CaseIterable {
    case trace, debug, info, notice, warning, error, critical

    public static func < (left: LogLevel, right: LogLevel) -> Bool { left.rawValue < right.rawValue }

    /// The level's name in lower case, as configuration and JSON lines write it.
    public var name: String { "\(self)" }

    /// The level with this name (`warning`, `WARN`), whatever the letter case.
    public init?(name: String) {
        let wanted = name.lowercased() == "warn" ? "warning" : name.lowercased()
        guard let level = LogLevel.allCases.first(where: { $0.name == wanted }) else { return nil }
        self = level
    }

    /// syslog's number for the level, as journald reads it from a `<N>` prefix.
    var priority: Int {
        switch self {
        case .trace, .debug: 7
        case .info: 6
        case .notice: 5
        case .warning: 4
        case .error: 3
        case .critical: 2
        }
    }
}

/// What may be a field of a log line. Types that hold secrets must not conform.
public protocol LogValue: Sendable {
    /// The value as text; quoting is the log's work.
    var logText: String { get }
}

extension LogValue where Self: CustomStringConvertible {
    public var logText: String { description }
}

extension LogValue where Self: RawRepresentable, Self.RawValue == String {
    public var logText: String { rawValue }
}

extension LogValue where Self: Identifier {
    public var logText: String { rawValue }
}

extension String: LogValue { public var logText: String { self } }
extension Substring: LogValue {}
extension Bool: LogValue {}
extension Double: LogValue {}
extension Int: LogValue {}
extension Int8: LogValue {}
extension Int16: LogValue {}
extension Int32: LogValue {}
extension Int64: LogValue {}
extension UInt: LogValue {}
extension UInt8: LogValue {}
extension UInt16: LogValue {}
extension UInt32: LogValue {}
extension UInt64: LogValue {}

extension Duration: LogValue {
    /// Seconds with the fraction that is needed: `1.5s`.
    public var logText: String { "\(inSeconds)s" }
}

extension Timestamp: LogValue {
    public var logText: String { iso8601Microseconds }
}

extension Failure: LogValue { public var logText: String { description } }
extension FailureKind: LogValue {}
extension InstanceID: LogValue {}
extension ProjectID: LogValue {}
extension UserID: LogValue {}
extension FlavorID: LogValue {}
extension ImageID: LogValue {}
extension HostName: LogValue {}
extension TaskID: LogValue {}
extension ClaimID: LogValue {}
extension RequestID: LogValue {}
extension VMState: LogValue {}
extension TaskState: LogValue {}

extension Optional: LogValue where Wrapped: LogValue {
    /// `-` for nothing.
    public var logText: String { map(\.logText) ?? "-" }
}

extension Array: LogValue where Element: LogValue {
    public var logText: String { map(\.logText).joined(separator: ",") }
}

/// Any error as a log field: its description.
public struct LoggedError: LogValue {
    public let logText: String

    public init(_ error: any Error) { logText = "\(error)" }
}
