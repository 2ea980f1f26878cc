internal import Model
internal import SQL
internal import SQLite
internal import Synchronization
internal import Telemetry

/// Goes through the guests, one each time, and tells the conductor again which interfaces each has, should the database
/// have it otherwise. The addresses themselves the driver keeps in order.
final class NetworkHealing: Sendable {
    private let journal: Journal
    private let host: HostName
    private let sequence: @Sendable () -> Int64
    private let wakeOutbox: @Sendable () -> Void
    private let last = Mutex<InstanceID?>(nil)

    init(
        journal: Journal, host: HostName, sequence: @escaping @Sendable () -> Int64,
        wakeOutbox: @escaping @Sendable () -> Void
    ) {
        (self.journal, self.host) = (journal, host)
        (self.sequence, self.wakeOutbox) = (sequence, wakeOutbox)
    }

    /// Heals the next guest in the order of the ids; one with an operation under way is passed over.
    func run() async throws {
        let (host, sequence) = (host, sequence)
        let (guests, busy) = try await journal.database.read { connection in
            (try connection.guests(), Set(try connection.openOperations().map(\.instance)))
        }
        let healthy = guests.filter { !$0.isLeftover && !busy.contains($0.id) && $0.vmState != .building }
        let before = last.withLock { $0 }
        let following = healthy.first { guest in before.map { $0 < guest.id } ?? true }
        guard let next = following ?? healthy.first else { return }
        last.withLock { $0 = next.id }
        let moment = journal.now()
        let isTold = try await journal.database.write { connection in
            // An operation that has begun since tells what it leaves.
            guard try connection.lane(next.id).isEmpty, let guest = try connection.guest(next.id),
                let fence = try connection.fence(next.id)
            else { return false }
            let report = guest.observation(from: host, fence, sequence: sequence(), moment)
            try connection.enqueue(report, requestID: RequestScope.makeID(), now: moment)
            return true
        }
        if isTold { wakeOutbox() }
    }
}
