#if PostgreSQL
    internal import CSystem
    internal import Glibc
    internal import SQL
    internal import Synchronization
    internal import Telemetry

    /// Hears, on a connection and a thread of its own, when other sessions have written, and tells them when we have.
    ///
    /// The word is passed on after the commit and outside of it: NOTIFY within a transaction lets only one commit at a time
    /// through the whole server. A program that dies between the two is made up for by those who look from time to time.
    final class ChangeListener: Sendable {
        private static let channel = "apus_changes"
        /// How long the connection is waited on without a sign of life, and after how long the clock is looked at again.
        private static let probe = Duration.seconds(30)

        private struct State {
            var version: Int64 = 0
            var isListening = false
            var isDirty = false
            var isEnding = false
            var wakers: [@Sendable () -> Void] = []
            /// The names that live as long as the connection does, and whether it has them.
            var names: [String: Bool] = [:]
        }

        private let address: ServerAddress
        private let settings: SessionSettings
        private let clock: ServerClock
        private let thread = BlockingExecutor(name: "postgresql-listen", threads: 1)
        private let wakeup: Int32
        private let state = Mutex(State())
        private let task = Mutex<Task<Void, Never>?>(nil)
        private let log = Logger("postgresql")

        init(_ address: ServerAddress, settings: SessionSettings, clock: ServerClock) throws(SQLError) {
            let descriptor = apus_eventfd()
            guard descriptor >= 0 else { throw SQLError(.other("descriptors"), "no descriptor for the listener") }
            (self.address, self.settings, self.clock, wakeup) = (address, settings, clock, descriptor)
        }

        deinit { close(wakeup) }

        func start() {
            task.withLock { task in
                task = Task { await self.thread.run { self.listen() } }
            }
        }

        /// Lets the listener end.
        func requestEnd() {
            state.withLock { $0.isEnding = true }
            wake(wakeup)
        }

        /// Ends the listener and waits for it.
        func end() async {
            requestEnd()
            await task.withLock { $0 }?.value
            thread.shutdown()
        }

        /// Rises with each change of another session; while nobody hears of those, with each question.
        var version: Int64 {
            state.withLock { state in
                if !state.isListening { state.version += 1 }
                return state.version
            }
        }

        func add(_ waker: @escaping @Sendable () -> Void) { state.withLock { $0.wakers.append(waker) } }

        /// Has the connection hold the lock of `name`; whether it does already.
        func announce(_ name: String) -> Bool {
            let isHeld = state.withLock { state in
                if let known = state.names[name] { return known }
                state.names[name] = false
                return false
            }
            if !isHeld { wake(wakeup) }
            return isHeld
        }

        /// The name's lock, as the server counts it: two numbers of 32 bits.
        static func lock(_ name: String) -> (space: Int32, number: Int32) {
            (0x6170_7573, Int32(truncatingIfNeeded: PresenceKey(name).value ^ PresenceKey(name).value >> 32))
        }

        /// Takes the locks that the connection has not yet; an earlier connection's go when the server has noticed its end.
        private func takeNames(_ connection: PostgreSQLConnection) throws(SQLError) -> Bool {
            let missing = state.withLock { state in state.names.filter { !$0.value }.map(\.key) }
            var hasAll = true
            for name in missing {
                let lock = Self.lock(name)
                let answer = try connection.command("SELECT pg_try_advisory_lock(\(lock.space), \(lock.number))")
                guard answer.rowCount > 0, answer.text(0) == "t" else {
                    hasAll = false
                    continue
                }
                state.withLock { $0.names[name] = true }
            }
            return hasAll
        }

        /// To be called after a commit that changed something.
        func noteWrite() {
            state.withLock { $0.isDirty = true }
            wake(wakeup)
        }

        private var isEnding: Bool { state.withLock { $0.isEnding } }

        private func listen() {
            var attempts = Attempts(patience: .seconds(60))
            while !isEnding {
                do {
                    let connection = try PostgreSQLConnection(address, settings: settings)
                    state.withLock { state in for name in state.names.keys { state.names[name] = false } }
                    try connection.command("LISTEN \(Self.channel)")
                    attempts = Attempts(patience: .seconds(60))
                    // Whatever happened while nobody listened counts as one change.
                    announce(isListening: true)
                    try hear(connection)
                } catch {
                    let wasListening = state.withLock { state in
                        defer { state.isListening = false }
                        return state.isListening
                    }
                    if wasListening {
                        log.warning("changes of other processes are not heard of", ["error": LoggedError(error)])
                    }
                    let pause = attempts.pause(after: .connectionLost, random: .random(in: 0..<1)) ?? .seconds(1)
                    waitForEnd(atMost: pause)
                }
            }
        }

        private func hear(_ connection: PostgreSQLConnection) throws(SQLError) {
            var lastLook = ContinuousClock.now
            while !isEnding {
                let hasNames = try takeNames(connection)
                let left = hasNames ? Self.probe - (ContinuousClock.now - lastLook) : .milliseconds(500)
                var isByOthers = try connection.waitForNotification(or: wakeup, atMost: max(.milliseconds(1), left))
                drain(wakeup)
                let isDirty = state.withLock { state in
                    defer { state.isDirty = false }
                    return state.isDirty
                }
                if isDirty { try connection.command("NOTIFY \(Self.channel)") }
                // Also a question that only a living server answers.
                let start = ContinuousClock.now
                if start - lastLook >= Self.probe {
                    lastLook = start
                    let answer = try connection.command(ServerClock.question)
                    if answer.rowCount > 0 { clock.note(answer.int64(0), askedAt: start) }
                }
                if connection.takeNotifications() { isByOthers = true }
                if isByOthers { announce(isListening: true) }
            }
        }

        private func announce(isListening: Bool) {
            let wakers = state.withLock { state in
                state.isListening = isListening
                state.version += 1
                return state.wakers
            }
            for wake in wakers { wake() }
        }

        /// Waits on this thread, which has nothing else to do, but not past the end.
        private func waitForEnd(atMost time: Duration) {
            let start = ContinuousClock.now
            while !isEnding, ContinuousClock.now - start < time {
                var waited = pollfd(fd: wakeup, events: Int16(POLLIN), revents: 0)
                let left = time - (ContinuousClock.now - start)
                poll(&waited, 1, left.pollMilliseconds)
                if waited.revents != 0 { drain(wakeup) }
            }
        }
    }
#endif
