import Configuration
import HTTP
import Model
import RPC
import Synchronization
import Telemetry
import Testing

@Suite("Metrics and health of a process")
struct MonitoringTests {
    private func get(_ port: UInt16, _ path: String) async throws -> (status: Int, text: String) {
        let http = HTTPClient()
        let answer = try await http.send(ClientRequest(method: .get, url: "http://127.0.0.1:\(port)\(path)"))
        await http.shutdown()
        return (answer.status, String(decoding: answer.body, as: UTF8.self))
    }

    private func monitoring(
        _ listen: String, complaint: @escaping @Sendable () async throws -> String? = { nil }
    ) throws -> Monitoring {
        let configuration = try Configuration.load(
            files: [], overrides: ["metrics.listen=\(listen)"], options: [Monitoring.listen.erased])
        return try Monitoring(configuration, complaint: complaint)
    }

    @Test("Both are served while the process works, and the process's end ends them")
    func serves() async throws {
        Metrics.shared.counter("monitoring_test_total", help: "A test's.").increment()
        let complaint = Mutex<String?>(nil)
        let port = Mutex<UInt16>(0)
        let monitoring = try monitoring("127.0.0.1:0") { complaint.withLock { $0 } }
        try await monitoring.run(serving: { number in port.withLock { $0 = number } }) {
            let number = port.withLock { $0 }
            let metrics = try await get(number, "/metrics")
            #expect(metrics.status == 200 && metrics.text.contains("monitoring_test_total 1"))
            #expect(metrics.text.contains("process_cpu_seconds_total"))
            #expect(try await get(number, "/healthz") == (200, "ok\n"))
            complaint.withLock { $0 = "the hypervisor is out of reach" }
            #expect(try await get(number, "/healthz") == (503, "the hypervisor is out of reach\n"))
        }
        await #expect(throws: HTTPClientError.self) { try await get(port.withLock { $0 }, "/healthz") }
    }

    @Test("What the look throws is told, and a process without an address serves nothing")
    func failures() async throws {
        let port = Mutex<UInt16>(0)
        let monitoring = try monitoring("127.0.0.1:0") { throw Failure(.storage, "the disk is full") }
        await #expect(throws: CancellationError.self) {
            try await monitoring.run(serving: { number in port.withLock { $0 = number } }) {
                #expect(try await get(port.withLock { $0 }, "/healthz") == (503, "storage: the disk is full\n"))
                throw CancellationError()
            }
        }
        let isServing = Mutex(false)
        try await self.monitoring("").run(serving: { _ in isServing.withLock { $0 = true } }) {}
        #expect(!isServing.withLock { $0 })
    }

    @Test("Addresses beyond this machine are refused", arguments: ["0.0.0.0:9100", "192.168.0.1:1", "x"])
    func beyond(listen: String) {
        #expect(throws: (any Error).self) { try monitoring(listen) }
    }
}
