import Model
import Testing

@testable import CommandLine

@Suite("Where a server would come now")
struct PresentPlaceTests {
    private static func host(_ name: String, memory: Int, used: Int, isUp: Bool = true) -> JSON {
        [
            "host": .string(name), "is_up": .bool(isUp),
            "total": ["vcpus": 8, "memory_mib": .integer(Int64(memory)), "disk_gib": 100],
            "used": ["memory_mib": .integer(Int64(used))], "running_instances": 1,
        ]
    }

    private static func server(_ host: String?, specs: JSON = [:]) -> JSON {
        var members: [String: JSON] = [
            "request": ["instances": ["i"], "flavor": ["vcpus": 1, "memory_mib": 2_048, "extra_specs": specs]]
        ]
        members["host"] = host.map { .string($0) }
        return .object(members)
    }

    @Test("Its own room counts as free, and the scheduler's options count")
    func again() throws {
        let hosts: JSON = [Self.host("a", memory: 2_048, used: 2_048), Self.host("b", memory: 4_096, used: 1_024)]
        let spreading = try #require(try PresentPlace("web", Self.server("a"), fleet: ["hosts": hosts]))
        #expect(spreading.json["host"] == "b" && spreading.json["computed_from"] == "present_fleet")
        #expect(spreading.json["explanation"]?["order"] == ["b", "a"])
        #expect(spreading.text.contains("computed from the fleet as it is now, without web. It is not the decision"))
        #expect(spreading.text.contains("It would come to b. a is number 2 of 2."))
        #expect(spreading.text.contains("RamFilter"))
        let packing = try #require(
            try PresentPlace(
                "web", Self.server("a"),
                fleet: ["hosts": hosts, "options": ["filter_scheduler.ram_weight_multiplier": "-1.0"]]))
        #expect(packing.text.contains("It would come to a again.") && !packing.text.contains("still counted"))
    }

    @Test("A host that would be refused now says by which filter")
    func refused() throws {
        let hosts: JSON = [
            Self.host("a", memory: 4_096, used: 0, isUp: false), Self.host("b", memory: 1_024, used: 0),
        ]
        let found = try #require(
            try PresentPlace("web", Self.server("a", specs: ["hw:cpu_policy": "shared"]), fleet: ["hosts": hosts]))
        #expect(found.json["host"] == .null && found.json["own_hardware_counted"] == true)
        #expect(found.text.contains("It would come nowhere.") && found.text.contains("down"))
        #expect(found.text.contains("short of memory by 1024 MiB"))
        #expect(found.text.contains("that web has for itself are still counted as taken on a."))
        let gone = try #require(try PresentPlace("web", Self.server("z"), fleet: ["hosts": hosts]))
        #expect(gone.text.contains("z is not in the fleet any more."))
        #expect(try PresentPlace("web", Self.server(nil), fleet: ["hosts": hosts]) == nil)
    }

    @Test("A fleet that cannot be read says what is wrong with it")
    func unreadable() {
        #expect(throws: CommandError.self) {
            try PresentPlace("web", Self.server("a"), fleet: ["hosts": [["host": "a", "new": 1, "total": [:]]]])
        }
        #expect(throws: CommandError.self) {
            try PresentPlace("web", Self.server("a"), fleet: ["hosts": [], "options": ["filter_scheduler.none": "1"]])
        }
    }
}
