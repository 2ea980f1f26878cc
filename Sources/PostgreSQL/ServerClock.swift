#if PostgreSQL
    internal import Model
    internal import SQL
    internal import Synchronization
    internal import Telemetry

    /// The server's clock, carried on between two looks at it by this machine's monotonic one. Processes of several machines
    /// then agree on what time it is, however wrong their own clocks are.
    final class ServerClock: Sendable {
        /// Asks the server for its time in microseconds.
        static let question = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)"
        /// An answer that took longer says too little, unless there is no other.
        private static let precision = Duration.milliseconds(250)

        private struct Look {
            var server: Timestamp
            var at: ContinuousClock.Instant
        }

        private let last = Mutex<Look?>(nil)
        private let instant: @Sendable () -> ContinuousClock.Instant
        private let machine: Now

        /// - Parameters:
        ///   - instant: this machine's monotonic clock.
        ///   - machine: this machine's clock, believed as long as there is nothing else.
        init(
            instant: @escaping @Sendable () -> ContinuousClock.Instant = { ContinuousClock.now },
            machine: @escaping Now = WallClock.now
        ) {
            (self.instant, self.machine) = (instant, machine)
        }

        /// Notes what the server answered to a question that was sent at `start`.
        func note(_ microseconds: Int64, askedAt start: ContinuousClock.Instant) {
            let end = instant()
            last.withLock { last in
                guard last == nil || end - start <= Self.precision else { return }
                last = Look(server: Timestamp(microseconds: microseconds), at: start + (end - start) / 2)
            }
        }

        /// The server's time now; this machine's before the first answer.
        func now() -> Timestamp {
            guard let look = last.withLock({ $0 }) else { return machine() }
            return look.server + (instant() - look.at)
        }
    }
#endif
