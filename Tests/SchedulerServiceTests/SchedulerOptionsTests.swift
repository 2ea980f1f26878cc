import Configuration
import Database
import Model
import Scheduling
import Testing

@testable import SchedulerService

@Suite("The options that a scheduler tells")
struct SchedulerOptionsTests {
    @Test("What is told makes the same scheduler elsewhere, and says nothing of addresses")
    func same() throws {
        let given = [
            "filter_scheduler.enabled_filters": "ComputeFilter, RamFilter", "filter_scheduler.host_subset_size": "3",
            "filter_scheduler.ram_weight_multiplier": "-1.5", "filter_scheduler.isolated_images": "a,b",
            "filter_scheduler.restrict_isolated_hosts_to_isolated_images": "no",
            "filter_scheduler.image_props_weight_setting": "os_distro=2,hw_machine_type=0",
            "metrics.weight_setting": "cpu.percent=-1", "metrics.required": "false",
            "scheduler.listen": "127.0.0.1:9999",
        ]
        let own = try Configuration(options: SchedulerOptions.all, values: given)
        let told = own.decidingOptions()
        #expect(!told.keys.contains { $0.hasPrefix("scheduler.") || $0.hasPrefix("DEFAULT.") })
        #expect(told.count == SchedulerOptions.deciding.count && told["filter_scheduler.max_io_ops_per_host"] == "8")
        let (one, other) = (
            own.schedulingOptions(),
            try Configuration(options: SchedulerOptions.all, values: told).schedulingOptions()
        )
        #expect(Self.members(of: one) == Self.members(of: other))
        #expect(other.enabledFilters == ["ComputeFilter", "RamFilter"] && other.hostSubsetSize == 3)
        #expect(other.ramWeight == -1.5 && other.isolatedImages == ["a", "b"] && !other.restrictsIsolatedHosts)
        #expect(other.imagePropertyWeights == ["os_distro": 2, "hw_machine_type": 0])
        #expect(other.metricRatios == ["cpu.percent": -1] && !other.requiresMetrics)
    }

    /// Each by its name; the elements of sets and dictionaries in one order.
    private static func members(of value: Any) -> [String] {
        Mirror(reflecting: value).children.map { name, value in
            let elements = Mirror(reflecting: value)
            let isUnordered = elements.displayStyle == .set || elements.displayStyle == .dictionary
            let text = isUnordered ? elements.children.map { "\($0.value)" }.sorted().joined() : "\(value)"
            return "\(name ?? ""): \(text)"
        }
    }

    @Test("The database has those of the scheduler that started last")
    func published() async throws {
        let published = PublishedOptions(settings: try await ControlDatabase.open(path: nil).settings)
        #expect(try await published.read() == [:])
        try await published.publish(["a.b": "1", "a.c": "x,y"])
        try await published.publish(["a.b": "2"])
        #expect(try await published.read() == ["a.b": "2"])
    }
}
