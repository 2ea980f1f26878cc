/// Writes log lines of one part of the program: a constant message plus fields. A value, cheap to copy.
///
/// A line whose level is below the minimum costs one atomic load. Never pass a secret as a field.
public struct Logger: Sendable {
    /// The target or part that speaks: `agent`, `rpc`.
    public let label: String

    public init(_ label: String) { self.label = label }

    /// Writes a line if `level` is logged at all.
    public func log(_ level: LogLevel, _ message: StaticString, _ fields: KeyValuePairs<String, any LogValue> = [:]) {
        guard LogSystem.isEnabled(level) else { return }
        LogSystem.write(level, label: label, message: message, fields: fields)
    }

    public func trace(_ message: StaticString, _ fields: KeyValuePairs<String, any LogValue> = [:]) {
        log(.trace, message, fields)
    }

    public func debug(_ message: StaticString, _ fields: KeyValuePairs<String, any LogValue> = [:]) {
        log(.debug, message, fields)
    }

    public func info(_ message: StaticString, _ fields: KeyValuePairs<String, any LogValue> = [:]) {
        log(.info, message, fields)
    }

    public func notice(_ message: StaticString, _ fields: KeyValuePairs<String, any LogValue> = [:]) {
        log(.notice, message, fields)
    }

    public func warning(_ message: StaticString, _ fields: KeyValuePairs<String, any LogValue> = [:]) {
        log(.warning, message, fields)
    }

    public func error(_ message: StaticString, _ fields: KeyValuePairs<String, any LogValue> = [:]) {
        log(.error, message, fields)
    }

    public func critical(_ message: StaticString, _ fields: KeyValuePairs<String, any LogValue> = [:]) {
        log(.critical, message, fields)
    }
}
