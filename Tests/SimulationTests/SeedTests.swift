import Model
import RPC
import Synchronization
import Testing

@testable import Simulation

@Suite("Where a simulation's draws begin")
struct SeedTests {
    private func fleet(_ seed: UInt64) throws -> SimulatedFleet {
        var settings = SimulationSettings()
        (settings.seed, settings.failureShare) = (seed, 0.5)
        return try SimulatedFleet(
            [SimulatedHost(name: HostName("h"), secret: "s", conductorSecret: "c")], conductors: [], settings: settings)
    }

    /// What befalls the first guests: how long each takes, and whether it fails.
    private func draws(_ seed: UInt64) throws -> [(Duration, Bool)] {
        let fleet = try fleet(seed)
        return fleet.state.withLock { state in
            (0..<50).map { _ in
                let time = fleet.duration(of: .build, using: &state.generator)
                return (time, Double.random(in: 0..<1, using: &state.generator) < fleet.settings.failureShare)
            }
        }
    }

    @Test("The same seed gives the same times and failures in the same order, another one others")
    func sameAgain() throws {
        let (first, again, other) = (try draws(7), try draws(7), try draws(8))
        #expect(first.map(\.0) == again.map(\.0) && first.map(\.1) == again.map(\.1))
        #expect(first.map(\.0) != other.map(\.0) && first.map(\.1) != other.map(\.1))
        // They are drawn, and not one value throughout.
        #expect(Set(first.map(\.0)).count == 50 && Set(first.map(\.1)).count == 2)
    }

    @Test("Times lie around the median that was asked for, deletions at a quarter of it")
    func median() throws {
        let fleet = try fleet(3)
        func median(_ kind: HostState.Operation.Kind) -> Duration {
            let drawn = fleet.state.withLock { state in
                (0..<1_001).map { _ in fleet.duration(of: kind, using: &state.generator) }
            }
            return drawn.sorted()[500]
        }
        let asked = fleet.settings.buildTime
        let (build, deletion) = (median(.build) / asked, median(.deletion) / asked)
        #expect(build > 0.9 && build < 1.1)
        #expect(deletion > 0.225 && deletion < 0.275)
    }

    @Test("Builds one after the other on a fleet that runs end alike for the same seed")
    func played() async throws {
        func outcomes(_ seed: UInt64) async throws -> [FailureKind?] {
            let play = try Play(hosts: 1) {
                ($0.seed, $0.failureShare, $0.buildTime) = (seed, 0.5, .milliseconds(1))
                ($0.heartbeatInterval, $0.reportInterval) = (.seconds(600), .seconds(600))
            }
            for number in 1...16 {
                try await play.build("i\(number)", on: 1)
                try await play.wait("the end of a build") { $0.operations.count == number }
            }
            let outcomes = play.heard.withLock { $0.operations.map { $0.failure?.kind } }
            await play.end()
            return outcomes
        }
        let first = try await outcomes(11)
        #expect(try await outcomes(11) == first)
        #expect(try await outcomes(12) != first)
        #expect(Set(first) == [nil, .internalError])
    }
}
