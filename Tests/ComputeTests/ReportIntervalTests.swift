import Configuration
import Model
import RPC
import Testing

@testable import Compute

@Suite("report_interval", .timeLimit(.minutes(2)))
struct ReportIntervalTests {
    @Test("An agent's heartbeats come as often as the option says, beginning at once")
    func option() async throws {
        let often = try Bench(settings: ["DEFAULT.report_interval": "150ms"])
        try await often.run { agent in
            #expect(agent.core.heartbeats().interval == .milliseconds(150))
            let heard = try await agent.conductor.until { $0.heartbeats.count >= 8 }
            #expect(heard.heartbeats.allSatisfy { $0.host == HostName("host1") && $0.binary == "nova-compute" })
            let numbers = heard.heartbeats.map(\.sequence)
            #expect(numbers == numbers.sorted() && Set(numbers).count == numbers.count)
        }
        let seldom = try Bench(settings: ["DEFAULT.report_interval": "300"])
        try await seldom.run { agent in
            #expect(agent.core.heartbeats().interval == .seconds(300))
            _ = try await agent.conductor.until { !$0.heartbeats.isEmpty }
            // Whatever else the agent tells meanwhile, the next beat is not due for minutes.
            for _ in 1...3 { try await agent.built(.test(memoryMiB: 64)) }
            #expect(agent.conductor.heard.heartbeats.count == 1)
        }
        let unset = try Bench(settings: ["DEFAULT.report_interval": "10"])
        #expect(try unset.configuration()[ComputeOptions.reportInterval] == ComputeOptions.reportInterval.defaultValue)
    }
}
