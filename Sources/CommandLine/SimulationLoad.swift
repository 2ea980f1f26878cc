internal import HTTP
internal import Model
internal import Simulation
internal import Synchronization
internal import Telemetry

/// Launches and deletions at a steady rate, whatever becomes of each.
final class SimulationLoad: Sendable {
    struct Accepted: Sendable {
        var ids: [InstanceID] = []
        /// Those whose deletion was accepted.
        var deletions: [InstanceID] = []
        /// Servers of which an image was asked for, and the request accepted.
        var snapshots: [InstanceID] = []
        /// Launches that the rate asked for and that were never sent, because too many requests had no answer yet.
        var unsent = 0
        /// Requests that were refused, by HTTP status; 0 for those that found nobody.
        var refused: [Int: Int] = [:]
        /// Requests under way.
        var open = 0
    }

    /// Requests under way at most; beyond that a launch waits for an earlier one's answer.
    private static let concurrency = 500
    /// After its host's word that a guest is built, before an image is made of it: the conductor takes the word first.
    private static let rest = Duration.seconds(1)
    /// One that every new installation has.
    private static let flavor = "1"

    private let plan: SimulationPlan
    private let client: CloudClient
    private let fleet: SimulatedFleet
    private let clock = AlarmClock()
    private let accepted = Mutex(Accepted())

    init(plan: SimulationPlan, client: CloudClient, fleet: SimulatedFleet) {
        (self.plan, self.client, self.fleet) = (plan, client, fleet)
    }

    /// Launches and deletes until the plan's time is over, or makes all launches of a burst; gives what was accepted.
    func run() async throws -> Accepted {
        let image = try await makeImage()
        if plan.burst > 0 {
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 1...plan.burst {
                    if number > Self.concurrency { try await group.next() }
                    accepted.withLock { $0.open += 1 }
                    group.addTask { try await self.launch("sim-\(number)", image) }
                }
                try await group.waitForAll()
            }
            return accepted.withLock { $0 }
        }
        try await withThrowingDiscardingTaskGroup { group in
            let start = ContinuousClock.now
            var (launched, wanted) = (0, 0)
            defer { accepted.withLock { $0.unsent = wanted - launched } }
            var due: [(at: ContinuousClock.Instant, id: InstanceID)] = []
            var copies: [(at: ContinuousClock.Instant, id: InstanceID)] = []
            var (built, copied) = (0, 0)
            while true {
                let passed = ContinuousClock.now - start
                if passed >= .seconds(plan.seconds) { break }
                wanted = Int(passed / .seconds(1) * Double(plan.rate))
                while launched < wanted, accepted.withLock({ $0.open }) < Self.concurrency {
                    launched += 1
                    accepted.withLock { $0.open += 1 }
                    let name = "sim-\(launched)"
                    group.addTask { try await self.launch(name, image) }
                }
                for id in fleet.takeBuilt() {
                    due.append((ContinuousClock.now + .seconds(plan.lifetime), id))
                    built += 1
                    guard Double(copied) < Double(built) * plan.snapshotShare else { continue }
                    copied += 1
                    copies.append((ContinuousClock.now + Self.rest, id))
                }
                let ready = copies.prefix { $0.at <= ContinuousClock.now }.map(\.id)
                copies.removeFirst(ready.count)
                for id in ready { group.addTask { try await self.snapshot(id) } }
                let over = due.prefix { $0.at <= ContinuousClock.now }.map(\.id)
                due.removeFirst(over.count)
                for id in over { group.addTask { try await self.delete(id) } }
                try await clock.sleep(for: .milliseconds(10))
            }
        }
        return accepted.withLock { $0 }
    }

    private func makeImage() async throws -> String {
        let made = try await client.request(
            .post, .image, "/images",
            body: [
                "name": "simulated", "disk_format": "raw", "container_format": "bare", "visibility": "public",
            ])
        guard let id = made["id"]?.text else { throw CommandError.failure("The image service gave no id.") }
        let bytes = [UInt8](repeating: 0, count: 1 << 20)
        try await client.upload(.image, "/images/\(id)/file", length: Int64(bytes.count), BytesSource(bytes))
        return id
    }

    private func launch(_ name: String, _ image: String) async throws {
        defer { accepted.withLock { $0.open -= 1 } }
        let body: JSON = [
            "server": [
                "name": .string(name), "imageRef": .string(image), "flavorRef": .string(Self.flavor),
                "networks": "none",
            ]
        ]
        do {
            let made = try await client.request(.post, .compute, "/servers", body: body)
            guard let id = made["server"]?["id"]?.text else {
                throw CommandError.failure("The compute service gave no id for \(name).")
            }
            accepted.withLock { $0.ids.append(InstanceID(id)) }
        } catch let error as APIError {
            accepted.withLock { $0.refused[error.status, default: 0] += 1 }
        } catch let error as CommandError {
            guard case .failure = error, !Task.isCancelled else { throw error }
            accepted.withLock { $0.refused[0, default: 0] += 1 }
        }
    }

    private func snapshot(_ id: InstanceID) async throws {
        do {
            _ = try await client.request(
                .post, .compute, "/servers/\(id)/action", body: ["createImage": ["name": .string("of-\(id)")]])
            accepted.withLock { $0.snapshots.append(id) }
        } catch let error as APIError {
            accepted.withLock { $0.refused[error.status, default: 0] += 1 }
        } catch is CommandError {
            accepted.withLock { $0.refused[0, default: 0] += 1 }
        }
    }

    private func delete(_ id: InstanceID) async throws {
        do {
            _ = try await client.request(.delete, .compute, "/servers/\(id)")
            accepted.withLock { $0.deletions.append(id) }
        } catch let error as APIError {
            // It stays then, and the audit counts it as what it is.
            accepted.withLock { $0.refused[error.status, default: 0] += 1 }
        } catch is CommandError {
            accepted.withLock { $0.refused[0, default: 0] += 1 }
        }
    }
}
