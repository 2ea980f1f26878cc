import Model
import Testing

@Suite("Periods of the usage audit")
struct AuditPeriodTests {
    @Test(
        "The last period that is over, of every unit, with and without an offset",
        arguments: [
            ("month", "2026-03-01T00:00:00Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"),
            ("month", "2026-02-28T23:59:59Z", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"),
            ("month", "2026-01-15T12:00:00Z", "2025-12-01T00:00:00Z", "2026-01-01T00:00:00Z"),
            ("month@15", "2026-01-15T00:00:00Z", "2025-12-15T00:00:00Z", "2026-01-15T00:00:00Z"),
            ("month@15", "2026-01-14T23:59:59Z", "2025-11-15T00:00:00Z", "2025-12-15T00:00:00Z"),
            ("year", "2026-11-28T10:00:00Z", "2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
            ("year@12", "2026-11-28T10:00:00Z", "2024-12-01T00:00:00Z", "2025-12-01T00:00:00Z"),
            ("year@3", "2026-11-28T10:00:00Z", "2025-03-01T00:00:00Z", "2026-03-01T00:00:00Z"),
            ("day", "2024-03-01T00:00:01Z", "2024-02-29T00:00:00Z", "2024-03-01T00:00:00Z"),
            ("day@6", "2026-11-28T05:59:59Z", "2026-11-26T06:00:00Z", "2026-11-27T06:00:00Z"),
            ("hour", "2026-11-28T05:00:00Z", "2026-11-28T04:00:00Z", "2026-11-28T05:00:00Z"),
            ("hour@30", "2026-11-28T00:29:59Z", "2026-11-27T22:30:00Z", "2026-11-27T23:30:00Z"),
        ])
    func lastEnded(text: String, moment: String, beginning: String, ending: String) throws {
        let period = try #require(AuditPeriod(text)).lastEnded(at: try #require(Timestamp(iso8601: moment)))
        #expect(period.lowerBound.iso8601 == beginning && period.upperBound.iso8601 == ending)
    }

    @Test("Periods follow each other without a gap, over leap years and turns of the year")
    func gapless() throws {
        for text in ["hour@59", "day@23", "month", "month@28", "year", "year@12"] {
            let audit = try #require(AuditPeriod(text))
            var moment = try #require(Timestamp(iso8601: "2025-03-01T00:00:00Z"))
            for _ in 0..<40 {
                let period = audit.lastEnded(at: moment)
                #expect(period.upperBound <= moment && !period.isEmpty)
                #expect(audit.lastEnded(at: period.lowerBound).upperBound == period.lowerBound, "\(text)")
                moment = period.lowerBound
            }
        }
    }

    @Test(
        "What is no period is refused",
        arguments: ["", "week", "Month", "month@0", "month@29", "day@24", "hour@60", "year@13", "month@", "month@1@2"])
    func refused(text: String) {
        #expect(AuditPeriod(text) == nil)
    }
}
