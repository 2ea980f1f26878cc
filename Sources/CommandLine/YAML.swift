/// The part of YAML in which people write clouds.yaml: nested mappings, lists of plain values, quoted and plain
/// scalars, comments. Anything else is refused with its line, not guessed at.
enum YAML: Sendable, Hashable {
    case scalar(String)
    case list([YAML])
    case mapping([String: YAML])

    /// Deeper documents are refused.
    static let maximumDepth = 16

    subscript(_ key: String) -> YAML? {
        if case .mapping(let members) = self { members[key] } else { nil }
    }

    var text: String? { if case .scalar(let text) = self { text } else { nil } }

    var members: [String: YAML]? { if case .mapping(let members) = self { members } else { nil } }

    init(parsing text: String) throws(YAMLError) {
        var reader = YAMLReader(lines: try YAMLReader.lines(of: text))
        self = try reader.block(indent: 0, depth: 0)
        if let line = reader.next {
            throw YAMLError(line: line.number, reason: "is indented differently from its neighbours")
        }
    }
}

struct YAMLError: Error, Sendable, Hashable, CustomStringConvertible {
    var line: Int
    var reason: String

    var description: String { "line \(line) \(reason)" }
}

private struct YAMLReader {
    struct Line {
        var number: Int
        var indent: Int
        var content: Substring
    }

    var lines: ArraySlice<Line>

    init(lines: [Line]) { self.lines = lines[...] }

    var next: Line? { lines.first }

    static func lines(of text: String) throws(YAMLError) -> [Line] {
        var found: [Line] = []
        for (index, raw) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            let number = index + 1
            let trimmed = raw.hasSuffix("\r") ? raw.dropLast() : raw
            let content = trimmed.drop { $0 == " " }
            if content.hasPrefix("\t") { throw YAMLError(line: number, reason: "is indented with a tab") }
            if content.isEmpty || content.hasPrefix("#") { continue }
            if number == 1 || found.isEmpty, content == "---" { continue }
            if content == "---" || content == "..." {
                throw YAMLError(line: number, reason: "begins a second document")
            }
            found.append(Line(number: number, indent: trimmed.count - content.count, content: content))
        }
        return found
    }

    /// The lines at exactly `indent`, with what is nested below them.
    mutating func block(indent: Int, depth: Int) throws(YAMLError) -> YAML {
        guard let first = next, first.indent >= indent else { return .mapping([:]) }
        guard depth < YAML.maximumDepth else { throw YAMLError(line: first.number, reason: "is nested too deeply") }
        return first.content.hasPrefix("- ") || first.content == "-"
            ? try list(indent: first.indent) : try mapping(indent: first.indent, depth: depth)
    }

    private mutating func list(indent: Int) throws(YAMLError) -> YAML {
        var items: [YAML] = []
        while let line = next, line.indent == indent, line.content.hasPrefix("-") {
            lines.removeFirst()
            let value = line.content.dropFirst().drop { $0 == " " }
            var rest = value
            let item = try Self.scalar(&rest, line: line.number)
            if rest.hasPrefix(":") {
                throw YAMLError(line: line.number, reason: "is a mapping in a list, which is not read here")
            }
            items.append(.scalar(item))
        }
        return .list(items)
    }

    private mutating func mapping(indent: Int, depth: Int) throws(YAMLError) -> YAML {
        var members: [String: YAML] = [:]
        while let line = next, line.indent == indent {
            lines.removeFirst()
            var rest = line.content
            let key = try Self.key(&rest, line: line.number)
            guard members[key] == nil else { throw YAMLError(line: line.number, reason: "repeats the key '\(key)'") }
            let value = Self.withoutComment(rest)
            if value.isEmpty {
                // A list may stand at its key's own indentation.
                let isList = next.map { $0.indent == indent && $0.content.hasPrefix("- ") } ?? false
                if isList {
                    members[key] = try list(indent: indent)
                } else if let below = next, below.indent > indent {
                    members[key] = try block(indent: below.indent, depth: depth + 1)
                } else {
                    members[key] = .scalar("")
                }
                continue
            }
            if value == "{}" || value == "[]" {
                members[key] = value == "{}" ? .mapping([:]) : .list([])
                continue
            }
            var scalar = rest
            members[key] = .scalar(try Self.scalar(&scalar, line: line.number))
        }
        return .mapping(members)
    }

    private static func key(_ rest: inout Substring, line: Int) throws(YAMLError) -> String {
        if rest.hasPrefix("\"") || rest.hasPrefix("'") {
            let key = try quoted(&rest, line: line)
            rest = rest.drop { $0 == " " }
            guard rest.hasPrefix(":") else { throw YAMLError(line: line, reason: "has no ':' after its key") }
            rest = rest.dropFirst().drop { $0 == " " }
            return key
        }
        var index = rest.startIndex
        while index < rest.endIndex {
            let after = rest.index(after: index)
            if rest[index] == ":", after == rest.endIndex || rest[after] == " " {
                let key = String(rest[..<index])
                guard !key.isEmpty, !"&*!?|>{[%@`".contains(key.prefix(1)) else { break }
                rest = rest[after...].drop { $0 == " " }
                return key
            }
            index = after
        }
        throw YAMLError(line: line, reason: "is not of the form 'key: value'")
    }

    private static func scalar(_ rest: inout Substring, line: Int) throws(YAMLError) -> String {
        if rest.hasPrefix("\"") || rest.hasPrefix("'") {
            let text = try quoted(&rest, line: line)
            guard withoutComment(rest).isEmpty else { throw YAMLError(line: line, reason: "goes on after the quotes") }
            return text
        }
        let text = withoutComment(rest)
        if let first = text.first, "&*!|>{[%@`".contains(first) {
            throw YAMLError(
                line: line, reason: "uses '\(first)', a form of YAML that is not read here; put the value in quotes")
        }
        if text.contains(": ") || text.hasSuffix(":") {
            throw YAMLError(line: line, reason: "has a second ':'; put the value in quotes")
        }
        return text == "null" || text == "~" ? "" : String(text)
    }

    private static func quoted(_ rest: inout Substring, line: Int) throws(YAMLError) -> String {
        let mark = rest.removeFirst()
        var text = ""
        while let character = rest.popFirst() {
            if character == mark {
                guard mark == "'", rest.first == "'" else { return text }
                text.append(rest.removeFirst())
            } else if character == "\\", mark == "\"" {
                switch rest.popFirst() {
                case "n": text.append("\n")
                case "t": text.append("\t")
                case let plain? where "\\\"/".contains(plain): text.append(plain)
                default: throw YAMLError(line: line, reason: "has an escape that is not read here")
                }
            } else {
                text.append(character)
            }
        }
        throw YAMLError(line: line, reason: "has no closing \(mark)")
    }

    private static func withoutComment(_ text: Substring) -> Substring {
        var end = text.endIndex
        var isAfterBlank = true
        for index in text.indices {
            if text[index] == "#", isAfterBlank {
                end = index
                break
            }
            isAfterBlank = text[index] == " "
        }
        var kept = text[..<end]
        while kept.last == " " { kept.removeLast() }
        return kept
    }
}
