internal import Glibc

/// The entries of one file in the dialect of Nova's files: `[section]`, `name = value` or `name: value`, comments at the
/// beginning of a line by `#` or `;`, further lines of a value indented, one pair of quotes around a value removed.
struct INIFile {
    struct Entry: Hashable {
        var key: String
        var value: String
        var line: Int
    }

    static let largest = 1 << 20

    private(set) var entries: [Entry] = []

    init(_ text: String, path: String) throws(ConfigurationError) {
        var section = "DEFAULT"
        var isOpen = false
        for (index, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
            let content = trimmed(line)
            if content.isEmpty || content.hasPrefix("#") || content.hasPrefix(";") {
                // An empty line ends a value; a comment inside one does not.
                if content.isEmpty { isOpen = false }
                continue
            }
            if line.first?.isWhitespace == true {
                guard isOpen, !entries.isEmpty else {
                    throw .syntax(
                        path: path, line: index + 1, reason: "an indented line continues a value, but none is before it"
                    )
                }
                entries[entries.count - 1].value += "\n" + content
                continue
            }
            if content.hasPrefix("[") {
                let name = trimmed(content.dropFirst().dropLast())
                guard content.hasSuffix("]"), !name.isEmpty else {
                    throw .syntax(path: path, line: index + 1, reason: "a section is written [name]")
                }
                section = name
                isOpen = false
                continue
            }
            guard let separator = content.firstIndex(where: { $0 == "=" || $0 == ":" }), separator > content.startIndex
            else { throw .syntax(path: path, line: index + 1, reason: "neither [section] nor name = value") }
            let name = trimmed(content[..<separator]).replacing("-", with: "_")
            let value = trimmed(content[content.index(after: separator)...])
            entries.append(Entry(key: "\(section).\(name)", value: value, line: index + 1))
            isOpen = true
        }
        for index in entries.indices { entries[index].value = Self.unquoted(entries[index].value) }
    }

    private static func unquoted(_ value: String) -> String {
        guard value.count > 1, let first = value.first, first == "\"" || first == "'", value.last == first else {
            return value
        }
        return String(value.dropFirst().dropLast())
    }
}

/// A file's text, at most `limit` bytes of UTF-8, and whether group or others may read it.
func readFile(_ path: String, limit: Int) throws(ConfigurationError) -> (text: String, isExposed: Bool) {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { throw unreadable(path) }
    defer { close(file) }
    var status = stat()
    guard fstat(file, &status) == 0 else { throw unreadable(path) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65_536)
    while true {
        let count = read(file, &buffer, buffer.count)
        if count < 0 {
            if errno == EINTR { continue }
            throw unreadable(path)
        }
        if count == 0 { break }
        bytes += buffer.prefix(count)
        guard bytes.count <= limit else { throw .unreadable(path: path, reason: "it has more than \(limit) bytes") }
    }
    guard let text = String(validating: bytes, as: UTF8.self) else {
        throw .unreadable(path: path, reason: "it is not UTF-8")
    }
    return (text, status.st_mode & 0o077 != 0)
}

private func unreadable(_ path: String) -> ConfigurationError {
    .unreadable(path: path, reason: String(cString: strerror(errno)))
}
