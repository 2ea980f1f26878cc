internal import Model

/// One line before it is written: pure text work, so that every format is testable.
struct LogLine {
    var time: Timestamp
    var level: LogLevel
    var label: String
    var message: String
    var requestID: String?
    var fields: [(String, String)]

    /// A value longer than this many bytes is cut, so that hostile input cannot flood the log.
    static let longestValue = 4_096

    func text(_ format: LogFormat) -> String {
        switch format {
        case .text: "\(time.iso8601Microseconds) \(level.name.uppercased()) \(plain)"
        case .journald: "<\(level.priority)>\(plain)"
        case .json: json
        }
    }

    private var plain: String {
        var line = "\(label): \(message)"
        for (name, value) in fields { line += " \(name)=\(Self.quoted(value))" }
        if let requestID { line += " request_id=\(requestID)" }
        return line
    }

    private var json: String {
        var line = "{\"time\":\"\(time.iso8601Microseconds)\",\"level\":\"\(level.name)\",\"label\":"
        line += Self.jsonText(label) + ",\"message\":" + Self.jsonText(message)
        if let requestID { line += ",\"request_id\":" + Self.jsonText(requestID) }
        if !fields.isEmpty {
            let members = fields.map { Self.jsonText($0.0) + ":" + Self.jsonText(Self.cut($0.1)) }
            line += ",\"fields\":{" + members.joined(separator: ",") + "}"
        }
        return line + "}"
    }

    private static func cut(_ value: String) -> String {
        value.utf8.count <= longestValue
            ? value : String(decoding: value.utf8.prefix(longestValue), as: UTF8.self) + "…"
    }

    /// The value as it is when it is one plain word, else in quotes with everything that could forge a line escaped.
    private static func quoted(_ value: String) -> String {
        let isPlain = value.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F && $0 != 0x22 && $0 != 0x3D && $0 != 0x5C }
        return isPlain && !value.isEmpty && value.utf8.count <= longestValue ? value : jsonText(cut(value))
    }

    private static func jsonText(_ value: String) -> String {
        var result = "\""
        for scalar in value.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\r": result += "\\r"
            case "\t": result += "\\t"
            case _
            where scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value) || scalar.value == 0x2028
                || scalar.value == 0x2029:
                let digits = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}
