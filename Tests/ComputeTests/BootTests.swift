import Model
import RPC
import SQL
import SQLite
import Testing

@testable import Compute

@Suite("After the host's boot", .timeLimit(.minutes(2)))
struct BootTests {
    /// A guest that runs and one that was stopped, on a host that then goes down and boots.
    private func rebooted(_ running: Instance, _ stopped: Instance, again: Bool) async throws -> (Folder, FakeHost) {
        let (folder, host) = (try Folder(), FakeHost())
        try await Bench(host: host, folder: folder).run { agent in
            try await agent.built(running)
            try await agent.built(stopped)
            _ = try await agent.conductor.outcome(of: agent.operate(.stop, stopped.id, generation: 2))
            try await agent.settled()
            if again {
                try await agent.core.journal.database.write { try $0.setSetting("boot_id", "an-earlier-one") }
            }
        }
        host.change { state in
            for id in state.domains.keys { state.domains[id]?.powerState = .shutdown }
        }
        return (folder, host)
    }

    @Test("Guests that ran are started where the configuration says so, others stay off")
    func resumed() async throws {
        let (running, stopped) = (Instance.test(), Instance.test())
        let (folder, host) = try await rebooted(running, stopped, again: true)
        let bench = try Bench(
            host: host, folder: folder, settings: ["DEFAULT.resume_guests_state_on_host_boot": "true"])
        try await bench.run { agent in
            try await agent.settled()
            #expect(host.state.domains[running.id]?.powerState == .running)
            #expect(host.state.domains[stopped.id]?.powerState == .shutdown)
            #expect(try await agent.core.journal.guest(running.id)?.vmState == .active)
            #expect(!agent.conductor.heard.instances.contains { $0.vmState == .stopped })
        }
    }

    @Test(
        "Without the option, or without a boot in between, they have stopped, and that is told",
        arguments: [(true, "false"), (false, "true")])
    func stopped(again: Bool, option: String) async throws {
        let (running, stopped) = (Instance.test(), Instance.test())
        let (folder, host) = try await rebooted(running, stopped, again: again)
        let bench = try Bench(
            host: host, folder: folder, settings: ["DEFAULT.resume_guests_state_on_host_boot": option])
        try await bench.run { agent in
            let heard = try await agent.conductor.until { $0.instances.contains { $0.instance == running.id } }
            #expect(heard.instances.last { $0.instance == running.id }?.vmState == .stopped)
            #expect(host.state.domains[running.id]?.powerState == .shutdown)
        }
    }

    @Test("A guest that cannot be started after the boot is told as what it is")
    func failing() async throws {
        let (running, stopped) = (Instance.test(), Instance.test())
        let (folder, host) = try await rebooted(running, stopped, again: true)
        let bench = try Bench(
            host: host, folder: folder, settings: ["DEFAULT.resume_guests_state_on_host_boot": "true"])
        bench.driver.fail(.powerOn, Failure(.hypervisor, "no memory"))
        try await bench.run { agent in
            let heard = try await agent.conductor.until { $0.instances.contains { $0.instance == running.id } }
            #expect(heard.instances.last { $0.instance == running.id }?.vmState == .error)
        }
    }
}
