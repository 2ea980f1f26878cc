import GuestHardware
import HostTopology
import Model

/// A server of two sockets with 16 cores of two threads each and huge pages: the processors' numbers and siblings of
/// libvirt's test data `vircaps-x86_64-resctrl-amd.xml` (github.com/libvirt/libvirt, commit 8cf7d0d), which were captured
/// on an AMD EPYC; memory and pages are of a common size.
func twoSockets(shared: String? = nil, dedicated: String? = nil, largePages: Int = 1_024) -> HostTopology {
    let cells = [(0, 0..<16), (1, 16..<32)].map { id, first in
        HostCell(
            id: id, memoryMiB: 65_536, cpus: CPUSet(Set(first).union(first.map { $0 + 32 })),
            cores: first.map { CPUSet([$0, $0 + 32]) },
            pages: [
                .init(sizeKiB: 4, total: 16_252_928), .init(sizeKiB: 2_048, total: largePages),
                .init(sizeKiB: 1_048_576, total: 4),
            ])
    }
    return HostTopology(
        cells: cells, shared: shared.flatMap { CPUSet(parsing: $0) },
        dedicated: dedicated.flatMap { CPUSet(parsing: $0) })
}

/// A small machine: one cell, two processors, nothing known of pages.
let small = HostTopology(
    cells: [
        HostCell(id: 0, memoryMiB: 4_096, cpus: CPUSet([0, 1]), cores: [CPUSet([0]), CPUSet([1])], pages: [])
    ], dedicated: CPUSet([0, 1]))

/// What a guest of such specs asks for.
func request(
    _ specs: [String: String], vcpus: Int = 4, memoryMiB: Int = 2_048
) throws -> TopologyRequest {
    let flavor = Flavor(
        id: FlavorID("1"), name: "m", vcpus: vcpus, memoryMiB: memoryMiB, rootGiB: 1, extraSpecs: specs)
    guard let found = try GuestHardware(flavor: flavor, imageProperties: [:]).topology else {
        throw Failure(.invalidParameters, "nothing is asked for")
    }
    return found
}

struct Generator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
