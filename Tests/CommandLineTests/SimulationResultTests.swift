import Database
import Model
import Simulation
import Testing

@testable import CommandLine

@Suite("What a simulation tells")
struct SimulationResultTests {
    private func result(_ words: String...) throws -> SimulationResult {
        SimulationResult(plan: try SimulationPlan(Invocation(words, options: Command.simulate.options, arguments: [])))
    }

    @Test("Dropped are beats that nobody heard, beats that were late and reports that failed")
    func dropped() throws {
        var result = try result()
        #expect(result.json["dropped"] == 0)
        (result.hosts.lostHeartbeats, result.hosts.lateHeartbeats, result.hosts.failedReports) = (1, 20, 300)
        #expect(result.json["dropped"] == 321 && result.json["late_heartbeats"] == 20)
        #expect(result.text.contains("321"))
    }

    @Test("The rate that was reached stands beside the one that was asked for, and what could not be sent is counted")
    func rate() throws {
        var result = try result("--rate", "20")
        (result.active, result.elapsed, result.unsent) = (300, 20, 100)
        #expect(result.json["launches_per_second"]?.double == 15 && result.json["asked_per_second"] == 20)
        #expect(result.json["unsent"] == 100)
        #expect(result.text.contains("15.0 of 20 asked for"))
        var burst = try self.result("--burst", "300")
        (burst.active, burst.elapsed) = (300, 20)
        #expect(burst.json["asked_per_second"] == .null && burst.json["launches_per_second"]?.double == 15)
        #expect(!burst.text.contains("asked for)"))
    }

    private func instance(_ state: VMState) -> Instance {
        var instance = Instance(
            id: InstanceID("i"), projectID: ProjectID("p"), userID: UserID("u"), name: "i", hostname: "i",
            flavor: Flavor(id: FlavorID("f"), name: "f", vcpus: 1, memoryMiB: 1, rootGiB: 1), imageID: ImageID("m"),
            reservationID: "r", createdAt: Timestamp(seconds: 1))
        instance.vmState = state
        return instance
    }

    private func action(_ kind: InstanceActionKind, ended: Bool = true, message: String? = nil) -> InstanceAction {
        InstanceAction(
            instance: InstanceID("i"), requestID: RequestID("req-1"), kind: kind, userID: UserID("u"),
            projectID: ProjectID("p"), startedAt: Timestamp(seconds: 1),
            finishedAt: ended ? Timestamp(seconds: 2) : nil, message: message)
    }

    @Test("A deletion that was accepted is lost when it is not on record, or has ended and the server is still there")
    func deletions() {
        func lost(_ state: VMState, _ actions: InstanceAction...) -> String? {
            SimulationAudit.lostDeletion(of: instance(state), actions)
        }
        #expect(lost(.deleted, action(.create), action(.delete)) == nil)
        #expect(lost(.error, action(.delete, message: "Error")) == nil, "it says that it failed")
        #expect(lost(.active, action(.create))?.contains("not on record") == true)
        #expect(lost(.active, action(.create), action(.delete))?.contains("is active") == true)
        // One without an end is told of as any action without one.
        #expect(lost(.active, action(.delete, ended: false)) == nil)
    }
}
