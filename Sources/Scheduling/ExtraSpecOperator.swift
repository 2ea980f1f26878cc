/// What a flavor's extra spec demands of a value: `>= 4`, `s== x`, `<in> aes`, `<or> a <or> b`, or the value itself.
struct ExtraSpecOperator: Sendable {
    private enum Comparison: String, CaseIterable {
        case equals = "=", atLeast = ">=", atMost = "<=", same = "==", other = "!="
        case textSame = "s==", textOther = "s!=", textLess = "s<", textAtMost = "s<=", textMore = "s>"
        case textAtLeast = "s>=", contains = "<in>", containsAll = "<all-in>", either = "<or>"
    }

    private let demand: String
    private let comparison: Comparison?
    private let operands: [String]

    init(_ demand: String) {
        self.demand = demand
        let parts = demand.split(whereSeparator: \.isWhitespace).map(String.init)
        comparison = parts.first.flatMap(Comparison.init(rawValue:))
        switch comparison {
        case .either:
            // `a <or> b`: each operand is one word between the operators.
            operands = parts.split(separator: Comparison.either.rawValue).compactMap(\.first)
        default: operands = Array(parts.dropFirst())
        }
    }

    /// Whether `value` is what is demanded; one that is not there never is, and neither is what a number is compared with
    /// and is none.
    func admits(_ value: String?) -> Bool {
        guard let value else { return false }
        guard let comparison else { return value == demand }
        guard let operand = operands.first else { return false }
        switch comparison {
        case .equals, .atLeast: return compare(value, operand) { $0 >= $1 }
        case .atMost: return compare(value, operand) { $0 <= $1 }
        case .same: return compare(value, operand) { $0 == $1 }
        case .other: return compare(value, operand) { $0 != $1 }
        case .textSame: return value == operand
        case .textOther: return value != operand
        case .textLess: return precedes(value, operand)
        case .textAtMost: return !precedes(operand, value)
        case .textMore: return precedes(operand, value)
        case .textAtLeast: return !precedes(value, operand)
        case .contains: return value.contains(operand)
        case .containsAll: return operands.allSatisfy { value.contains($0) }
        case .either: return operands.contains(value)
        }
    }

    private func compare(_ value: String, _ operand: String, _ holds: (Double, Double) -> Bool) -> Bool {
        guard let left = number(value), let right = number(operand) else { return false }
        return holds(left, right)
    }

    /// By code points, as Python compares.
    private func precedes(_ left: String, _ right: String) -> Bool {
        left.unicodeScalars.lexicographicallyPrecedes(right.unicodeScalars)
    }
}
