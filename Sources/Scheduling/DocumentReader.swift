internal import Model

/// What is wrong with a fleet, a request or a trace, and where in it.
public struct DocumentError: Error, Sendable, Hashable, CustomStringConvertible {
    /// `hosts[3].total.vcpus`
    public var place: String
    public var reason: String

    public init(_ place: String, _ reason: String) { (self.place, self.reason) = (place, reason) }

    public var description: String { place.isEmpty ? reason : "\(place): \(reason)" }
}

/// Takes members out of an object, by name and type; what is left at the end is an error.
struct DocumentReader {
    private let place: String
    private var members: [String: JSON]

    /// Amounts are numbers up to this: sums of them stay far from the end of an integer.
    static let limit = 1_000_000_000_000

    init(_ json: JSON, _ place: String) throws(DocumentError) {
        guard let members = json.members else { throw DocumentError(place, "an object is wanted") }
        (self.place, self.members) = (place, members.filter { !$0.value.isNull })
    }

    func name(_ member: String) -> String { place.isEmpty ? member : "\(place).\(member)" }

    private mutating func take<T>(
        _ member: String, _ wanted: String, _ read: (JSON) -> T?
    ) throws(DocumentError) -> T? {
        guard let value = members.removeValue(forKey: member) else { return nil }
        guard let read = read(value) else { throw DocumentError(name(member), "\(wanted) is wanted") }
        return read
    }

    mutating func whole(
        _ member: String, in range: ClosedRange<Int> = -limit...limit
    ) throws(DocumentError) -> Int? {
        try take(member, "a whole number from \(range.lowerBound) to \(range.upperBound)") { value in
            value.int.flatMap { range.contains($0) ? $0 : nil }
        }
    }

    mutating func number(_ member: String) throws(DocumentError) -> Double? {
        try take(member, "a number") { value in value.double.flatMap { abs($0) <= 1e15 ? $0 : nil } }
    }

    mutating func text(_ member: String) throws(DocumentError) -> String? {
        try take(member, "a text") { $0.text }
    }

    mutating func flag(_ member: String) throws(DocumentError) -> Bool? {
        try take(member, "true or false") { $0.boolean }
    }

    mutating func texts(_ member: String) throws(DocumentError) -> [String]? {
        try take(member, "a list of texts", Self.texts)
    }

    /// Texts, or one text alone, by name.
    mutating func textLists(_ member: String) throws(DocumentError) -> [String: [String]]? {
        try take(member, "an object of texts or lists of texts") { value in
            Self.map(value) { $0.text.map { [$0] } ?? Self.texts($0) }
        }
    }

    mutating func textMap(_ member: String) throws(DocumentError) -> [String: String]? {
        try take(member, "an object of texts") { value in Self.map(value) { $0.text } }
    }

    mutating func wholeMap(_ member: String) throws(DocumentError) -> [String: Int]? {
        try take(member, "an object of whole numbers") { value in
            Self.map(value) { $0.int.flatMap { abs($0) <= Self.limit ? $0 : nil } }
        }
    }

    mutating func cpus(_ member: String) throws(DocumentError) -> CPUSet? {
        try take(member, "CPUs like 0-3,8") { value in value.text.flatMap(Self.cpus) }
    }

    mutating func cpuLists(_ member: String) throws(DocumentError) -> [CPUSet]? {
        try take(member, "a list of CPUs like 0-3,8") { value in
            guard let list = value.list else { return nil }
            let found = list.compactMap { $0.text.flatMap(Self.cpus) }
            return found.count == list.count ? found : nil
        }
    }

    mutating func object(_ member: String) throws(DocumentError) -> DocumentReader? {
        guard let value = members.removeValue(forKey: member) else { return nil }
        return try DocumentReader(value, name(member))
    }

    mutating func objects(_ member: String) throws(DocumentError) -> [DocumentReader]? {
        guard let value = members.removeValue(forKey: member) else { return nil }
        guard let list = value.list else { throw DocumentError(name(member), "a list is wanted") }
        var found: [DocumentReader] = []
        found.reserveCapacity(list.count)
        for (index, element) in list.enumerated() {
            found.append(try DocumentReader(element, "\(name(member))[\(index)]"))
        }
        return found
    }

    /// Of an object whose members' names are anybody's.
    var names: [String] { members.keys.sorted() }

    func missing(_ member: String) -> DocumentError { DocumentError(name(member), "it is wanted") }

    func finish() throws(DocumentError) {
        guard let stray = members.keys.min() else { return }
        throw DocumentError(name(stray), "there is no such member")
    }

    private static func texts(_ value: JSON) -> [String]? {
        guard let list = value.list else { return nil }
        let found = list.compactMap(\.text)
        return found.count == list.count ? found : nil
    }

    private static func map<T>(_ value: JSON, _ read: (JSON) -> T?) -> [String: T]? {
        guard let members = value.members else { return nil }
        let found = members.compactMapValues(read)
        return found.count == members.count ? found : nil
    }

    private static func cpus(_ text: String) -> CPUSet? { text.isEmpty ? CPUSet() : CPUSet(parsing: text) }
}
