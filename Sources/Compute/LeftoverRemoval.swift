internal import Model
internal import Synchronization
internal import Telemetry

/// Tries again to remove what a failed removal left, up to a number of times in one life of the agent.
final class LeftoverRemoval: Sendable {
    private let limit: Int
    private let journal: Journal
    private let dispatcher: Dispatcher
    private let attempts = Mutex<[InstanceID: Int]>([:])
    private let log = Logger("agent.guests")
    private let givenUp = Metrics.shared.gauge(
        "agent_leftovers_given_up", help: "Instances whose removal is not tried any more in this life of the agent.")

    /// - Parameter limit: `maximum_instance_delete_attempts`.
    init(limit: Int, journal: Journal, dispatcher: Dispatcher) {
        (self.limit, self.journal, self.dispatcher) = (limit, journal, dispatcher)
    }

    /// One look at all of them.
    func run() async throws {
        let left = try await journal.guests().filter(\.isLeftover)
        attempts.withLock { attempts in
            let known = Set(left.map(\.id))
            attempts = attempts.filter { known.contains($0.key) }
        }
        var given = 0
        for guest in left {
            let count = attempts.withLock { $0[guest.id, default: 0] }
            guard count < limit else {
                given += 1
                continue
            }
            guard try await dispatcher.cleanUp(guest) else { continue }
            attempts.withLock { $0[guest.id] = count + 1 }
            if count + 1 == limit {
                log.error(
                    "the last attempt to remove what is left of an instance; the next comes with the agent's next start",
                    ["instance": guest.id, "attempts": limit])
            }
        }
        givenUp.set(Double(given))
    }
}
