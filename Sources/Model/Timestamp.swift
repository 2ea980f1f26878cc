/// A moment in UTC with microsecond resolution; the form in which every table and message keeps time.
public struct Timestamp: Hashable, Comparable, Sendable, Codable {
    /// Microseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
    public var microseconds: Int64

    public init(microseconds: Int64) { self.microseconds = microseconds }

    public init(seconds: Int64) { self.microseconds = seconds * 1_000_000 }

    public init(from decoder: any Decoder) throws {
        microseconds = try decoder.singleValueContainer().decode(Int64.self)
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(microseconds)
    }

    public static func < (left: Timestamp, right: Timestamp) -> Bool { left.microseconds < right.microseconds }

    /// The moment `duration` later; saturates at the ends of the range.
    public static func + (left: Timestamp, duration: Duration) -> Timestamp {
        let (sum, overflow) = left.microseconds.addingReportingOverflow(duration.microseconds)
        return Timestamp(microseconds: overflow ? (duration < .zero ? .min : .max) : sum)
    }

    public static func - (left: Timestamp, duration: Duration) -> Timestamp { left + (.zero - duration) }

    /// How long after `earlier` this moment is; negative when it is before.
    public func since(_ earlier: Timestamp) -> Duration {
        .microseconds(microseconds - earlier.microseconds)
    }

    /// `2026-01-31T12:00:00Z`: the fraction is cut off.
    public var iso8601: String { dateAndTime(separator: "T") + "Z" }

    /// `2026-01-31T12:00:00.000000`, without a zone: the form of Nova's older members.
    public var iso8601MicrosecondsWithoutZone: String { dateAndTime(separator: "T") + "." + fraction }

    /// `2026-01-31T12:00:00.000000Z`: the form of Keystone's tokens.
    public var iso8601Microseconds: String { iso8601MicrosecondsWithoutZone + "Z" }

    /// `2026-01-31 12:00:00`, as libvirt metadata and Nova's records write it.
    public var spaced: String { dateAndTime(separator: " ") }

    private var fraction: String {
        let part = floorMod(microseconds, 1_000_000)
        let digits = String(part)
        return String(repeating: "0", count: 6 - digits.count) + digits
    }

    private func dateAndTime(separator: String) -> String {
        let seconds = floorDiv(microseconds, 1_000_000)
        let civil = CivilDate(daysSinceEpoch: floorDiv(seconds, 86_400))
        let ofDay = floorMod(seconds, 86_400)
        return "\(pad(civil.year, 4))-\(pad(civil.month, 2))-\(pad(civil.day, 2))\(separator)"
            + "\(pad(ofDay / 3_600, 2)):\(pad(ofDay / 60 % 60, 2)):\(pad(ofDay % 60, 2))"
    }

    /// Reads ISO 8601 as the clients send it: date, `T` or a space, time with optional seconds and fraction, optional
    /// zone (`Z` or `±hh:mm`, `±hhmm`; none means UTC). A date alone is midnight. `nil` for anything else.
    public init?(iso8601 text: String) {
        var reader = Digits(text)
        guard let year = reader.number(4), reader.skip("-"), let month = reader.number(2), reader.skip("-"),
            let day = reader.number(2), (1...12).contains(month), (1...31).contains(day)
        else { return nil }
        let date = CivilDate(year: year, month: month, day: day)
        guard CivilDate(daysSinceEpoch: date.daysSinceEpoch) == date else { return nil }
        var total = date.daysSinceEpoch * 86_400
        var micros: Int64 = 0
        if !reader.atEnd {
            guard reader.skip("T") || reader.skip(" "), let hour = reader.number(2), reader.skip(":"),
                let minute = reader.number(2), hour < 24, minute < 60
            else { return nil }
            var second: Int64 = 0
            if reader.skip(":") {
                guard let value = reader.number(2), value < 61 else { return nil }
                second = value
                if reader.skip(".") {
                    guard let value = reader.fractionOfMicroseconds() else { return nil }
                    micros = value
                }
            }
            total += hour * 3_600 + minute * 60 + second
            if !reader.skip("Z"), !reader.atEnd {
                let sign: Int64
                if reader.skip("+") { sign = -1 } else if reader.skip("-") { sign = 1 } else { return nil }
                guard let hours = reader.number(2) else { return nil }
                _ = reader.skip(":")
                guard let minutes = reader.number(2), hours < 24, minutes < 60 else { return nil }
                total += sign * (hours * 3_600 + minutes * 60)
            }
        }
        guard reader.atEnd else { return nil }
        microseconds = total * 1_000_000 + micros
    }
}

extension Duration {
    /// Whole microseconds, cut towards zero; saturates at the range of `Int64`.
    public var microseconds: Int64 {
        let (seconds, attoseconds) = components
        let (scaled, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000)
        guard !overflow else { return seconds < 0 ? .min : .max }
        return scaled + attoseconds / 1_000_000_000_000
    }

    /// The length in seconds, as a number for metrics and logs.
    public var inSeconds: Double {
        let (seconds, attoseconds) = components
        return Double(seconds) + Double(attoseconds) / 1e18
    }
}

/// A day of the proleptic Gregorian calendar; conversions after Howard Hinnant's `days_from_civil`.
struct CivilDate: Equatable {
    var year: Int64
    var month: Int64
    var day: Int64

    init(year: Int64, month: Int64, day: Int64) {
        (self.year, self.month, self.day) = (year, month, day)
    }

    init(daysSinceEpoch days: Int64) {
        let shifted = days + 719_468
        let era = floorDiv(shifted, 146_097)
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * dayOfYear + 2) / 153
        day = dayOfYear - (153 * shiftedMonth + 2) / 5 + 1
        month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
        year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
    }

    var daysSinceEpoch: Int64 {
        let shiftedYear = month <= 2 ? year - 1 : year
        let era = floorDiv(shiftedYear, 400)
        let yearOfEra = shiftedYear - era * 400
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    }
}

private struct Digits {
    private var rest: Substring.UTF8View

    init(_ text: String) { rest = Substring(text).utf8 }

    var atEnd: Bool { rest.isEmpty }

    mutating func skip(_ character: Unicode.Scalar) -> Bool {
        guard rest.first == UInt8(ascii: character) else { return false }
        rest = rest.dropFirst()
        return true
    }

    mutating func number(_ count: Int) -> Int64? {
        let digits = rest.prefix(count)
        guard digits.count == count, digits.allSatisfy({ (48...57).contains($0) }) else { return nil }
        rest = rest.dropFirst(count)
        return digits.reduce(0) { $0 * 10 + Int64($1 - 48) }
    }

    mutating func fractionOfMicroseconds() -> Int64? {
        let digits = rest.prefix { (48...57).contains($0) }
        guard !digits.isEmpty else { return nil }
        rest = rest.dropFirst(digits.count)
        var value: Int64 = 0
        var places = 0
        for digit in digits where places < 6 {
            value = value * 10 + Int64(digit - 48)
            places += 1
        }
        for _ in places..<6 { value *= 10 }
        return value
    }
}

func floorDiv(_ value: Int64, _ divisor: Int64) -> Int64 {
    value >= 0 ? value / divisor : -((-value + divisor - 1) / divisor)
}

func floorMod(_ value: Int64, _ divisor: Int64) -> Int64 { value - floorDiv(value, divisor) * divisor }

private func pad(_ value: Int64, _ width: Int) -> String {
    let digits = String(value)
    return String(repeating: "0", count: max(0, width - digits.count)) + digits
}
