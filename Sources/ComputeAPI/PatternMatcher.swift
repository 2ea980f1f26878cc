/// A regular expression in a client's filter, matched in time proportional to text × pattern: no input can make it hang.
///
/// Understood: literals, `.`, classes `[a-z]` and `[^…]`, `\d \w \s` and their opposites, groups, `|`, `*`, `+`, `?`,
/// `^` and `$`. Anything else that has a meaning in other dialects is refused, not guessed.
struct PatternMatcher: Sendable {
    static let maximumLength = 255

    struct Malformed: Error, Sendable, Equatable {
        let reason: String
    }

    indirect enum Node: Sendable {
        case empty, start, end
        case character(CharacterClass)
        case sequence([Node])
        case alternatives([Node])
        case repeated(Node, atLeastOnce: Bool, isUnbounded: Bool)
    }

    struct CharacterClass: Sendable {
        var ranges: [ClosedRange<UInt32>] = []
        var isNegated = false

        func contains(_ scalar: Unicode.Scalar) -> Bool {
            ranges.contains { $0.contains(scalar.value) } != isNegated
        }
    }

    private enum Instruction: Sendable {
        case character(CharacterClass)
        case split(Int, Int)
        case jump(Int)
        case start, end, match
    }

    private var program: [Instruction] = []

    init(_ pattern: String) throws(Malformed) {
        guard pattern.unicodeScalars.count <= Self.maximumLength else {
            throw Malformed(reason: "longer than \(Self.maximumLength) characters")
        }
        var parser = PatternParser(pattern)
        emit(try parser.parse())
        program.append(.match)
    }

    private mutating func emit(_ node: Node) {
        switch node {
        case .empty: break
        case .start: program.append(.start)
        case .end: program.append(.end)
        case .character(let characters): program.append(.character(characters))
        case .sequence(let nodes): for node in nodes { emit(node) }
        case .alternatives(let nodes):
            var jumps: [Int] = []
            for (index, node) in nodes.enumerated() {
                guard index < nodes.count - 1 else {
                    emit(node)
                    break
                }
                let split = program.count
                program.append(.split(split + 1, 0))
                emit(node)
                jumps.append(program.count)
                program.append(.jump(0))
                program[split] = .split(split + 1, program.count)
            }
            for jump in jumps { program[jump] = .jump(program.count) }
        case .repeated(let node, let atLeastOnce, let isUnbounded):
            let begin = program.count
            if atLeastOnce {
                emit(node)
                program.append(.split(begin, program.count + 1))
            } else {
                program.append(.split(begin + 1, 0))
                emit(node)
                if isUnbounded { program.append(.jump(begin)) }
                program[begin] = .split(begin + 1, program.count)
            }
        }
    }

    /// Whether the pattern occurs anywhere in `text`.
    func matches(_ text: String) -> Bool {
        var current = StateSet(count: program.count)
        var next = StateSet(count: program.count)
        let scalars = Array(text.unicodeScalars)
        for position in 0...scalars.count {
            // A match may begin at every position.
            if add(0, to: &current, at: position, of: scalars.count) { return true }
            guard position < scalars.count else { return false }
            next.clear()
            for state in current.states {
                guard case .character(let characters) = program[state], characters.contains(scalars[position]) else {
                    continue
                }
                if add(state + 1, to: &next, at: position + 1, of: scalars.count) { return true }
            }
            swap(&current, &next)
        }
        return false
    }

    /// Follows everything that consumes no character; `true` when that ends in a match.
    private func add(_ first: Int, to set: inout StateSet, at position: Int, of length: Int) -> Bool {
        var waiting = [first]
        while let state = waiting.popLast() {
            guard set.insert(state) else { continue }
            switch program[state] {
            case .match: return true
            case .jump(let target): waiting.append(target)
            case .split(let one, let other): waiting += [other, one]
            case .start: if position == 0 { waiting.append(state + 1) }
            case .end: if position == length { waiting.append(state + 1) }
            case .character: break
            }
        }
        return false
    }

    private struct StateSet {
        private(set) var states: [Int] = []
        private var isIn: [Bool]

        init(count: Int) { isIn = Array(repeating: false, count: count) }

        mutating func insert(_ state: Int) -> Bool {
            guard !isIn[state] else { return false }
            isIn[state] = true
            states.append(state)
            return true
        }

        mutating func clear() {
            for state in states { isIn[state] = false }
            states.removeAll(keepingCapacity: true)
        }
    }
}
