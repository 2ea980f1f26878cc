import Model
import PCIDevices
import Testing

@Suite("What the host's devices can be shared into")
struct MediatedDeviceTests {
    private static func uuid(_ number: Int) -> String {
        let digits = String(number)
        return "00000000-0000-4000-8000-" + String(repeating: "0", count: 12 - digits.count) + digits
    }

    private static func names(_ numbers: Range<Int>) -> [String] { numbers.map { uuid($0) } }

    private static let parent = MediatedDeviceParent(
        address: "0000:84:00.0", numaNode: 1,
        types: [
            .init(id: "nvidia-35", deviceAPI: "vfio-pci", availableInstances: 3),
            .init(id: "nvidia-36", deviceAPI: "vfio-pci", availableInstances: 1),
            .init(id: "ccw-1", deviceAPI: "vfio-ccw", availableInstances: 9),
        ],
        devices: [
            MediatedDevice(parentAddress: "0000:84:00.0", type: "nvidia-35", uuid: uuid(7)),
            MediatedDevice(parentAddress: "0000:84:00.0", type: "nvidia-36", uuid: uuid(8)),
        ])

    // MARK: - Types

    @Test("A device gives the first enabled type that it knows: those that exist, and those that can be made")
    func supply() throws {
        let supply = try MediatedDeviceTypes(enabled: ["nvidia-99", "nvidia-35", "nvidia-36"]).supply(of: Self.parent)
        #expect(
            supply
                == MediatedDeviceSupply(
                    parentAddress: "0000:84:00.0", type: "nvidia-35", numaNode: 1, total: 4, existing: [Self.uuid(7)]))
        #expect(try MediatedDeviceTypes(enabled: ["nvidia-99"]).supply(of: Self.parent) == nil)
        #expect(try MediatedDeviceTypes(enabled: ["ccw-1"]).supply(of: Self.parent) == nil)
        #expect(try MediatedDeviceTypes(enabled: []).supply(of: Self.parent) == nil)
    }

    @Test("A device that is assigned to a type gives that one or none")
    func assigned() throws {
        func type(_ addresses: String) throws -> String? {
            try MediatedDeviceTypes(enabled: ["nvidia-35", "nvidia-36", "i915-GVTg_V5_8"], addresses: addresses)
                .supply(of: Self.parent)?.type
        }
        #expect(try type("nvidia-36=0000:85:00.0, 0000:84:00.0 ; nvidia-35=0000:86:00.0") == "nvidia-36")
        #expect(try type("i915-GVTg_V5_8=0000:84:00.0") == nil)
        #expect(try type("nvidia-36=0000:8A:00.0") == "nvidia-35")
        #expect(try type(" ") == "nvidia-35")
        #expect(
            try MediatedDeviceTypes.assignments(parsing: "a=0000:8A:00.7,10000:01:00.0")
                == ["0000:8a:00.7": "a", "10000:01:00.0": "a"])
    }

    @Test(
        "What contradicts itself, or is no configuration, is refused",
        arguments: [
            (["a", "a"], ""), (["a b"], ""), ([""], ""), ([String(repeating: "a", count: 65)], ""),
            (["a"], "b=0000:84:00.0"), ([], "a=0000:84:00.0"), (["a", "b"], "a=0000:84:00.0;b=0000:84:00.0"),
            (["a"], "a=0000:84:00.0,0000:84:00.0"), (["a"], "a=0000:84:00.0;a=0000:85:00.0"), (["a"], "a"),
            (["a"], "a="), (["a"], "=0000:84:00.0"), (["a"], "a=0000:84:00.0;"), (["a"], "a=84:00.0"),
            (["a"], "a=0000:84:00.8"), (["a"], "a=0000:84:00:0"), (["a"], "a=0000.84:00.0"), (["a"], "a=0000:84:0g.0"),
            (["a"], "a=0000:84:00.0.0"), (["a"], "a=0000:84:00.10"), (["a"], "a=+000:84:00.0"), (["a"], "a=b=c"),
            (["a"], "a=000000000000000:84:00.0"),
        ] as [([String], String)])
    func refused(enabled: [String], addresses: String) {
        #expect(throws: PCIError.self) { try MediatedDeviceTypes(enabled: enabled, addresses: addresses) }
    }

    // MARK: - Choice

    private let inventory = MediatedDeviceInventory([
        .init(parentAddress: "0000:85:00.0", type: "b", numaNode: 1, total: 3),
        .init(parentAddress: "0000:84:00.0", type: "a", numaNode: 0, total: 2, existing: [uuid(90)]),
        .init(parentAddress: "0000:86:00.0", type: "a", total: 2),
    ])

    private func parents(_ count: Int, near cells: Set<Int>?, beside: [MediatedDevice] = []) throws -> [String] {
        try inventory.choose(Self.names(0..<count), near: cells, beside: beside).map(\.parentAddress)
    }

    @Test("The nearest device is taken, of those the one with most left, of those the first")
    func order() throws {
        let (first, second, third) = ("0000:84:00.0", "0000:85:00.0", "0000:86:00.0")
        #expect(try parents(3, near: nil) == [second, first, second])
        #expect(try parents(3, near: [0]) == [first, first, third])
        #expect(try parents(4, near: [1]) == [second, second, second, third])
        #expect(try parents(6, near: [2]) == [third, third, second, first, second, first])
        #expect(try parents(7, near: nil).count == 7)
    }

    @Test("One that exists and is nobody's keeps its uuid; one that somebody holds is not given again")
    func existing() throws {
        let first = try inventory.choose(Self.names(0..<2), near: [0], beside: [])
        #expect(first.map(\.uuid) == [Self.uuid(90), Self.uuid(1)])
        #expect(first.map(\.type) == ["a", "a"])
        let next = try inventory.choose(Self.names(5..<6), near: [0], beside: first)
        #expect(next.map(\.parentAddress) == ["0000:86:00.0"] && next.map(\.uuid) == [Self.uuid(5)])
    }

    @Test("What is short is told: requested, free, total")
    func short() throws {
        let held = try inventory.choose(Self.names(0..<2), near: nil, beside: [])
        let error = #expect(throws: MediatedDeviceShortage.self) {
            try inventory.choose(Self.names(10..<16), near: nil, beside: held)
        }
        #expect(error?.requested == 6 && error?.free == 5 && error?.total == 7)
    }

    @Test("A share of another type takes its place all the same, and one of a device that is gone none of the others'")
    func strangers() {
        let other = MediatedDevice(parentAddress: "0000:85:00.0", type: "old", uuid: Self.uuid(70))
        let lost = MediatedDevice(parentAddress: "0000:99:00.0", type: "a", uuid: Self.uuid(71))
        #expect(inventory.free(beside: [other, lost]) == 6)
        #expect(inventory.cells(beside: [other, lost]) == [0, 1])
        #expect(
            inventory.pools(beside: [other, lost]).map { [$0.total, $0.used] } == [[2, 0], [3, 1], [2, 0], [0, 1]])
        #expect(inventory.pools(beside: [lost]).last?.parentAddress == "0000:99:00.0")
    }

    /// Repeatable randomness (SplitMix64).
    private struct Seeded: RandomNumberGenerator {
        var state: UInt64
        mutating func next() -> UInt64 {
            state &+= 0x9e37_79b9_7f4a_7c15
            var z = state
            z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
            z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
            return z ^ (z >> 31)
        }
    }

    @Test("Never more than there is, no uuid twice, and refused only where it is short", arguments: UInt64(1)...20)
    func properties(seed: UInt64) throws {
        var random = Seeded(state: seed)
        let inventory = MediatedDeviceInventory(
            (0..<Int.random(in: 1...5, using: &random)).map { index in
                let existing = (0..<Int.random(in: 0...3, using: &random)).map { Self.uuid(1_000 * (index + 1) + $0) }
                return MediatedDeviceSupply(
                    parentAddress: "0000:8\(index):00.0", type: "a",
                    numaNode: [nil, 0, 1][Int.random(in: 0...2, using: &random)],
                    total: existing.count + Int.random(in: 0...4, using: &random), existing: existing)
            })
        var (holders, next): ([[MediatedDevice]], Int) = ([], 0)
        for _ in 0..<200 {
            let held = holders.flatMap(\.self)
            if Bool.random(using: &random), !holders.isEmpty {
                holders.remove(at: Int.random(in: 0..<holders.count, using: &random))
                continue
            }
            let count = Int.random(in: 1...4, using: &random)
            let cells: Set<Int>? = [nil, [0], [1], [0, 1]][Int.random(in: 0...3, using: &random)]
            let free = inventory.free(beside: held)
            do {
                let given = try inventory.choose(Self.names(next..<(next + count)), near: cells, beside: held)
                #expect(given.count == count && free >= count)
                holders.append(given)
            } catch {
                #expect(free < count)
            }
            next += count
            let all = holders.flatMap(\.self)
            #expect(Set(all.map(\.uuid)).count == all.count)
            for pool in inventory.pools(beside: all) { #expect(pool.used <= pool.total) }
        }
    }
}
