/// Rows for a person: columns two blanks apart, headings in capitals, no lines drawn.
struct Table: Sendable {
    var headings: [String]
    /// Columns whose values are numbers stand to the right.
    var numeric: Set<Int> = []
    var rows: [[String]] = []

    init(_ headings: [String], numeric: Set<Int> = []) { (self.headings, self.numeric) = (headings, numeric) }

    mutating func add(_ row: [String]) { rows.append(row.map(printable)) }

    var text: String {
        var widths = headings.map(\.count)
        for row in rows {
            for (index, cell) in row.enumerated() where index < widths.count {
                widths[index] = max(widths[index], cell.count)
            }
        }
        return ([headings] + rows).map { row in
            var line = ""
            for (index, cell) in row.enumerated() {
                if index > 0 { line += "  " }
                let last = index == row.count - 1
                line +=
                    numeric.contains(index)
                    ? paddedLeft(cell, to: widths[index]) : last ? cell : padded(cell, to: widths[index])
            }
            return line
        }.joined(separator: "\n")
    }

    /// Name and value in two columns, for one thing.
    static func facts(_ facts: [(String, String)]) -> String {
        let width = facts.map(\.0.count).max() ?? 0
        return facts.map { "\(padded($0.0, to: width))  \(printable($0.1))" }.joined(separator: "\n")
    }
}

/// `text` without characters that would steer the terminal.
func printable(_ text: String) -> String {
    String(String.UnicodeScalarView(text.unicodeScalars.map { $0.value < 32 || $0.value == 127 ? " " : $0 }))
}
