/// The stretches of time for which the usage of instances is told: hours, days, months or years in UTC, one after the
/// other without a gap.
public struct AuditPeriod: Sendable, Hashable {
    private enum Unit: String { case hour, day, month, year }

    private let unit: Unit
    /// Where in the unit a period begins: the minute, the hour, the day of the month, the month.
    private let offset: Int64

    /// Reads `[DEFAULT] instance_usage_audit_period` as Nova writes it: `month`, or with where it begins `month@15` (day,
    /// 1 to 28), `year@3` (month), `day@6` (hour), `hour@30` (minute). `nil` for anything else.
    public init?(_ text: String) {
        let parts = text.split(separator: "@", maxSplits: 1, omittingEmptySubsequences: false)
        guard let unit = Unit(rawValue: String(parts[0])) else { return nil }
        let allowed: ClosedRange<Int64> =
            switch unit {
            case .hour: 0...59
            case .day: 0...23
            case .month: 1...28
            case .year: 1...12
            }
        var offset = allowed.lowerBound
        if parts.count == 2 {
            guard parts[1].utf8.allSatisfy({ (48...57).contains($0) }), let given = Int64(parts[1]),
                allowed.contains(given)
            else { return nil }
            offset = given
        }
        (self.unit, self.offset) = (unit, offset)
    }

    /// From the first of a month to the first of the next.
    public static let monthly = AuditPeriod(.month, 1)

    private init(_ unit: Unit, _ offset: Int64) { (self.unit, self.offset) = (unit, offset) }

    /// The last period that was over at `moment`; its upper bound belongs to the next.
    public func lastEnded(at moment: Timestamp) -> Range<Timestamp> {
        switch unit {
        case .hour: fixed(length: 3_600, start: offset * 60, moment)
        case .day: fixed(length: 86_400, start: offset * 3_600, moment)
        case .month: months(step: 1, first: 0, day: offset, moment)
        case .year: months(step: 12, first: offset - 1, day: 1, moment)
        }
    }

    private func fixed(length: Int64, start: Int64, _ moment: Timestamp) -> Range<Timestamp> {
        let seconds = floorDiv(moment.microseconds, 1_000_000)
        let end = floorDiv(seconds - start, length) * length + start
        return Timestamp(seconds: end - length)..<Timestamp(seconds: end)
    }

    /// Periods of `step` months; months are counted from the year 0, and `first` is one that begins a period.
    private func months(step: Int64, first: Int64, day: Int64, _ moment: Timestamp) -> Range<Timestamp> {
        let today = CivilDate(daysSinceEpoch: floorDiv(moment.microseconds, 86_400_000_000))
        let month = today.year * 12 + today.month - 1
        func begin(_ month: Int64) -> Timestamp {
            let date = CivilDate(year: floorDiv(month, 12), month: floorMod(month, 12) + 1, day: day)
            return Timestamp(seconds: date.daysSinceEpoch * 86_400)
        }
        var last = floorDiv(month - first, step) * step + first
        if begin(last) > moment { last -= step }
        return begin(last - step)..<begin(last)
    }
}
