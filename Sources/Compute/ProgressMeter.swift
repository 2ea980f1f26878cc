internal import Synchronization

/// Says which of many small steps forward are worth telling: the first, then each by 5 %, or after a second.
final class ProgressMeter: Sendable {
    private static let step = 5
    private static let interval = Duration.seconds(1)

    private let last = Mutex<(percent: Int, at: ContinuousClock.Instant)?>(nil)

    func isWorthTelling(_ percent: Int, now: ContinuousClock.Instant = .now) -> Bool {
        last.withLock { last in
            if let last {
                guard percent > last.percent else { return false }
                guard percent - last.percent >= Self.step || now - last.at >= Self.interval else { return false }
            }
            last = (percent, now)
            return true
        }
    }
}
