/// Numbers of processors, as `2-5,^3,8` writes them.
public struct CPUSet: Sendable, Hashable, Codable, CustomStringConvertible {
    /// Numbers above this belong to no machine.
    public static let highest = 65_535

    public var numbers: Set<Int>

    public init(_ numbers: Set<Int> = []) { self.numbers = numbers }

    /// Reads a list of numbers and ranges; `^` before one takes it out, wherever it stands. `nil` for anything else, and
    /// for a list that names none.
    public init?(parsing text: String) {
        var (taken, left): (Set<Int>, Set<Int>) = ([], [])
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            var word = part.drop { $0 == " " }
            while word.last == " " { word.removeLast() }
            let isOut = word.first == "^"
            if isOut { word.removeFirst() }
            let ends = word.split(separator: "-", omittingEmptySubsequences: false).map { Self.number($0) }
            guard (1...2).contains(ends.count), let first = ends[0], let last = ends[ends.count - 1], first <= last
            else { return nil }
            if isOut { left.formUnion(first...last) } else { taken.formUnion(first...last) }
        }
        numbers = taken.subtracting(left)
        guard !numbers.isEmpty else { return nil }
    }

    private static func number(_ text: Substring) -> Int? {
        guard !text.isEmpty, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let number = Int(text) else {
            return nil
        }
        return number <= highest ? number : nil
    }

    public var sorted: [Int] { numbers.sorted() }
    public var isEmpty: Bool { numbers.isEmpty }
    public var count: Int { numbers.count }

    /// In ascending order, neighbours as a range: `2,4-5,8`.
    public var description: String {
        var parts: [String] = []
        var rest = sorted[...]
        while let first = rest.first {
            var last = first
            rest.removeFirst()
            while rest.first == last + 1 { last = rest.removeFirst() }
            parts.append(first == last ? "\(first)" : "\(first)-\(last)")
        }
        return parts.joined(separator: ",")
    }

    public init(from decoder: any Decoder) throws {
        let text = try decoder.singleValueContainer().decode(String.self)
        if text.isEmpty {
            self.init()
        } else if let read = CPUSet(parsing: text) {
            self = read
        } else {
            throw DecodingError.dataCorrupted(
                .init(codingPath: decoder.codingPath, debugDescription: "no list of CPUs"))
        }
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}
