internal import Glibc
internal import Model
internal import Synchronization

/// How a log line is written.
public enum LogFormat: String, Sendable, CaseIterable {
    /// For people: time, level, part, message, fields.
    case text
    /// For journald by stderr: a `<priority>` prefix, no time.
    case journald
    /// One JSON object a line.
    case json
}

/// Where all log lines of the process go.
public enum LogSystem {
    private struct Setup: Sendable {
        var format = LogFormat.text
        var sink: (@Sendable (String) -> Void)?
        var observers: [@Sendable (String) -> Void] = []
    }

    private static let minimum = Atomic<Int>(LogLevel.info.rawValue)
    private static let setup = Mutex(Setup())

    /// Sets level, format and destination. Without a `sink`, lines go to stderr, one `write(2)` each. The sink gets the
    /// line without its newline, may be called from any thread, and must not log.
    public static func configure(
        minimum: LogLevel, format: LogFormat, sink: (@Sendable (String) -> Void)? = nil
    ) {
        setMinimum(minimum)
        setup.withLock { ($0.format, $0.sink) = (format, sink) }
    }

    /// From now on `observer` gets each line as well, for as long as the process lives. For tests; the same holds for it as
    /// for a sink.
    public static func observe(_ observer: @escaping @Sendable (String) -> Void) {
        setup.withLock { $0.observers.append(observer) }
    }

    /// Lines below `level` are dropped from now on.
    public static func setMinimum(_ level: LogLevel) {
        minimum.store(level.rawValue, ordering: .relaxed)
    }

    /// Whether a line of `level` is written at present.
    public static func isEnabled(_ level: LogLevel) -> Bool {
        level.rawValue >= minimum.load(ordering: .relaxed)
    }

    static func write(
        _ level: LogLevel, label: String, message: StaticString, fields: KeyValuePairs<String, any LogValue>
    ) {
        let setup = setup.withLock { $0 }
        let line = LogLine(
            time: WallClock.now(), level: level, label: label, message: message.description,
            requestID: RequestScope.current?.rawValue, fields: fields.map { ($0.key, $0.value.logText) })
        let text = line.text(setup.format)
        for observer in setup.observers { observer(text) }
        if let sink = setup.sink {
            sink(text)
        } else {
            writeToStandardError(text)
        }
    }

    private static func writeToStandardError(_ text: String) {
        var bytes = Array(text.utf8)
        bytes.append(UInt8(ascii: "\n"))
        bytes.withUnsafeBytes { buffer in
            var rest = buffer[...]
            while !rest.isEmpty {
                let written = Glibc.write(STDERR_FILENO, UnsafeRawBufferPointer(rebasing: rest).baseAddress, rest.count)
                if written > 0 {
                    rest = rest.dropFirst(written)
                } else if errno != EINTR {
                    // A log that nobody can take must not stop the work; the loss is counted.
                    droppedLines.increment()
                    return
                }
            }
        }
    }

    private static let droppedLines = Metrics.shared.counter(
        "apus_log_dropped_total", help: "Log lines that stderr did not take."
    ).cell()
}
