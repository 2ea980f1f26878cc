/// Which of a file's bytes a `Range` header asks for. One range is served; what asks for several, for another unit, or
/// cannot be read is answered with the whole, as the header allows.
enum ByteRange: Sendable, Hashable {
    case whole
    case part(Range<Int64>)
    /// The header asks only for bytes that are not there.
    case outside

    init(_ header: String?, of length: Int64) {
        self = .whole
        guard let header, let equals = header.firstIndex(of: "="),
            header[..<equals].lowercased() == "bytes"
        else { return }
        let text = header[header.index(after: equals)...]
        let ends = text.split(separator: "-", omittingEmptySubsequences: false)
        guard ends.count == 2, ends.allSatisfy({ $0.utf8.allSatisfy { (48...57).contains($0) } }) else { return }
        switch (Int64(ends[0]), Int64(ends[1])) {
        case (let first?, let last) where last != nil || ends[1].isEmpty:
            let last = last ?? .max
            guard first <= last else { return }
            self = first < length ? .part(first..<(min(last, length - 1) + 1)) : .outside
        case (nil, let count?) where ends[0].isEmpty:
            self = count > 0 && length > 0 ? .part(max(0, length - count)..<length) : .outside
        default: return
        }
    }
}
