internal import Glibc
internal import Model

/// What the benches here are given, and how they print what they find.
struct BenchOptions {
    private var values: [String: String] = [:]
    private var isTable = false

    /// Throws `.invalidParameters` for an option that is not among `known`, or has no value.
    init(_ arguments: [String], known: Set<String>) throws(Failure) {
        var rest = arguments[...]
        while let word = rest.popFirst() {
            if word == "--table" {
                isTable = true
            } else if known.contains(word), let value = rest.popFirst() {
                values[word] = value
            } else {
                throw Failure(.invalidParameters, "\(word) is no option here, or has no value")
            }
        }
    }

    func text(_ name: String) throws(Failure) -> String {
        guard let value = values[name] else { throw Failure(.invalidParameters, "\(name) is needed") }
        return value
    }

    func number(_ name: String, default standard: Int) throws(Failure) -> Int {
        guard let text = values[name] else { return standard }
        guard let number = Int(text), number > 0 else { throw Failure(.invalidParameters, "\(name) takes a number") }
        return number
    }

    func report(_ name: String, _ value: Double, _ unit: String, _ params: [String: String]) {
        let rounded = (value * 1_000).rounded() / 1_000
        let sorted = params.sorted { $0.key < $1.key }
        print(
            isTable
                ? "\(name)  \(rounded)  \(unit)  \(sorted.map { "\($0.key)=\($0.value)" }.joined(separator: " "))"
                : "{\"name\":\"\(name)\",\"params\":{\(sorted.map { "\"\($0.key)\":\"\($0.value)\"" }.joined(separator: ","))},"
                    + "\"value\":\(rounded),\"unit\":\"\(unit)\"}")
    }
}

/// The smallest value that at least `share` percent of all do not exceed.
func percentile(_ values: [Double], _ share: Double) -> Double {
    let ordered = values.sorted()
    guard !ordered.isEmpty else { return 0 }
    return ordered[max(0, Int((Double(ordered.count) * share / 100).rounded(.up)) - 1)]
}

func complain(_ text: String) -> Int32 {
    let line = Array("apus-bench: \(text)\n".utf8)
    _ = write(2, line, line.count)
    return 2
}
