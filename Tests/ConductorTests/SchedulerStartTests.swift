import Database
import Model
import Testing

@testable import Conductor

@Suite("A scheduler that starts")
struct SchedulerStartTests {
    @Test("It tells the options that it decides by")
    func options() async throws {
        let database = try await ControlDatabase.open(path: nil)
        for weight in ["-1.0", "2.0"] {
            try await ControlPlane.with(
                settings: ["filter_scheduler.ram_weight_multiplier": weight], database: database
            ) { plane in
                let told = try await PublishedOptions(settings: plane.database.settings).read()
                #expect(told["filter_scheduler.ram_weight_multiplier"] == weight)
                #expect(told["filter_scheduler.enabled_filters"]?.contains("ComputeFilter") == true)
                #expect(told["scheduler.listen"] == nil)
            }
        }
    }
}
