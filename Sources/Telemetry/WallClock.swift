internal import CSystem
internal import Glibc
public import Model

/// The present moment, passed in wherever a decision depends on time.
public typealias Now = @Sendable () -> Timestamp

/// The machine's clock (`CLOCK_REALTIME`).
public enum WallClock {
    public static let now: Now = {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Timestamp(microseconds: Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1_000)
    }
}
