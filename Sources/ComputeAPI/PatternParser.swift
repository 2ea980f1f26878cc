/// Reads a client's regular expression; the nesting of groups is bounded.
struct PatternParser {
    private typealias Node = PatternMatcher.Node
    private typealias CharacterClass = PatternMatcher.CharacterClass
    private typealias Malformed = PatternMatcher.Malformed

    private static let maximumDepth = 16

    private let scalars: [Unicode.Scalar]
    private var position = 0
    private var depth = 0

    init(_ pattern: String) { scalars = Array(pattern.unicodeScalars) }

    private var peek: Unicode.Scalar? { position < scalars.count ? scalars[position] : nil }

    mutating func parse() throws(PatternMatcher.Malformed) -> PatternMatcher.Node {
        let node = try alternatives()
        guard position == scalars.count else { throw Malformed(reason: "a group is closed that was not opened") }
        return node
    }

    private mutating func alternatives() throws(Malformed) -> Node {
        var found = [try sequence()]
        while peek == "|" {
            position += 1
            found.append(try sequence())
        }
        return found.count == 1 ? found[0] : .alternatives(found)
    }

    private mutating func sequence() throws(Malformed) -> Node {
        var found: [Node] = []
        while let scalar = peek, scalar != "|", scalar != ")" {
            var node = try atom()
            var isRepeated = false
            while let sign = peek, "*+?{".unicodeScalars.contains(sign) {
                guard sign != "{", !isRepeated else {
                    throw Malformed(reason: "repetition by \(sign) is not understood here")
                }
                position += 1
                isRepeated = true
                node = .repeated(node, atLeastOnce: sign == "+", isUnbounded: sign != "?")
            }
            found.append(node)
        }
        return found.isEmpty ? .empty : .sequence(found)
    }

    private mutating func atom() throws(Malformed) -> Node {
        guard let scalar = peek else { return .empty }
        position += 1
        switch scalar {
        case "^": return .start
        case "$": return .end
        case ".": return .character(CharacterClass(isNegated: true))
        case "[": return .character(try bracket())
        case "\\": return try escape()
        case "(": return try group()
        case "*", "+", "?", "{": throw Malformed(reason: "nothing to repeat before \(scalar)")
        default: return .character(CharacterClass(ranges: [scalar.value...scalar.value]))
        }
    }

    private mutating func group() throws(Malformed) -> Node {
        guard depth < Self.maximumDepth else { throw Malformed(reason: "groups are nested too deeply") }
        if peek == "?" {
            guard position + 1 < scalars.count, scalars[position + 1] == ":" else {
                throw Malformed(reason: "this kind of group is not understood")
            }
            position += 2
        }
        depth += 1
        let node = try alternatives()
        depth -= 1
        guard peek == ")" else { throw Malformed(reason: "a group is not closed") }
        position += 1
        return node
    }

    private mutating func escape() throws(Malformed) -> Node {
        guard let scalar = peek else { throw Malformed(reason: "nothing follows the last backslash") }
        position += 1
        if let known = Self.shorthand(scalar) { return .character(known) }
        guard !scalar.properties.isAlphabetic, !("0"..."9").contains(scalar) else {
            throw Malformed(reason: "\\\(scalar) is not understood")
        }
        return .character(CharacterClass(ranges: [scalar.value...scalar.value]))
    }

    private static func shorthand(_ scalar: Unicode.Scalar) -> PatternMatcher.CharacterClass? {
        let digits: [ClosedRange<UInt32>] = [48...57]
        let word: [ClosedRange<UInt32>] = [48...57, 65...90, 95...95, 97...122]
        let space: [ClosedRange<UInt32>] = [9...13, 32...32]
        switch scalar {
        case "d": return CharacterClass(ranges: digits)
        case "D": return CharacterClass(ranges: digits, isNegated: true)
        case "w": return CharacterClass(ranges: word)
        case "W": return CharacterClass(ranges: word, isNegated: true)
        case "s": return CharacterClass(ranges: space)
        case "S": return CharacterClass(ranges: space, isNegated: true)
        default: return nil
        }
    }

    private mutating func bracket() throws(Malformed) -> CharacterClass {
        var found = CharacterClass()
        if peek == "^" {
            found.isNegated = true
            position += 1
        }
        var isFirst = true
        while let scalar = peek {
            if scalar == "]", !isFirst {
                position += 1
                return found
            }
            isFirst = false
            let low = try bracketScalar(into: &found)
            guard let low else { continue }
            guard peek == "-", position + 1 < scalars.count, scalars[position + 1] != "]" else {
                found.ranges.append(low.value...low.value)
                continue
            }
            position += 1
            guard let high = try bracketScalar(into: &found), low.value <= high.value else {
                throw Malformed(reason: "a range in brackets is the wrong way round")
            }
            found.ranges.append(low.value...high.value)
        }
        throw Malformed(reason: "a bracket is not closed")
    }

    /// The next character in brackets; `nil` when it was a shorthand, which is added at once.
    private mutating func bracketScalar(into found: inout CharacterClass) throws(Malformed) -> Unicode.Scalar? {
        guard let scalar = peek else { throw Malformed(reason: "a bracket is not closed") }
        position += 1
        guard scalar == "\\" else {
            if scalar == "[", peek == ":" { throw Malformed(reason: "named classes are not understood") }
            return scalar
        }
        guard let escaped = peek else { throw Malformed(reason: "nothing follows the last backslash") }
        position += 1
        guard let known = Self.shorthand(escaped) else { return escaped }
        guard !known.isNegated else { throw Malformed(reason: "\\\(escaped) is not understood in brackets") }
        found.ranges += known.ranges
        return nil
    }
}
