import GuestHardware
import Testing

@Suite("How a guest's CPUs are arranged")
struct TopologyTests {
    struct Case: Sendable, CustomStringConvertible {
        var vcpus: Int
        var specs: [String: String] = [:]
        var properties: [String: String] = [:]
        var expected: [Int]

        var description: String { "\(vcpus) \(specs) \(properties) \(expected)" }
    }

    @Test(
        "Most sockets, then most cores, unless limits or wishes say otherwise",
        arguments: [
            Case(vcpus: 1, expected: [1, 1, 1]),
            Case(vcpus: 6, expected: [6, 1, 1]),
            Case(vcpus: 6, specs: ["hw:cpu_max_sockets": "2"], expected: [2, 3, 1]),
            Case(vcpus: 4, properties: ["hw_cpu_threads": "2"], expected: [2, 1, 2]),
            Case(vcpus: 8, specs: ["hw:cpu_max_sockets": "1", "hw:cpu_max_cores": "4"], expected: [1, 4, 2]),
            Case(vcpus: 8, specs: ["hw:cpu_sockets": "2", "hw:cpu_threads": "2"], expected: [2, 2, 2]),
            Case(vcpus: 8, specs: ["hw:cpu_cores": "4"], expected: [2, 4, 1]),
            // Two of three wishes beat one; which cannot be met is not held against the others.
            Case(
                vcpus: 8, specs: ["hw:cpu_sockets": "3", "hw:cpu_cores": "2", "hw:cpu_threads": "2"],
                expected: [2, 2, 2]),
            // No wish can be met: the first arrangement.
            Case(vcpus: 7, specs: ["hw:cpu_cores": "2"], expected: [7, 1, 1]),
            // The image's wishes replace all of the flavor's.
            Case(
                vcpus: 8, specs: ["hw:cpu_sockets": "2", "hw:cpu_cores": "4"], properties: ["hw_cpu_threads": "2"],
                expected: [4, 1, 2]),
            // The image narrows the flavor's limit; the flavor's wish above it is dropped.
            Case(
                vcpus: 8, specs: ["hw:cpu_sockets": "8"], properties: ["hw_cpu_max_sockets": "4"], expected: [4, 2, 1]),
        ])
    func arrangement(_ item: Case) throws {
        let topology = try hardware(item.specs, item.properties, vcpus: item.vcpus).processor.topology
        #expect([topology.sockets, topology.cores, topology.threads] == item.expected)
    }

    @Test("Every arrangement has as many CPUs as the flavor", arguments: 1...64)
    func product(vcpus: Int) throws {
        for limit in ["1", "2", "5", "64"] {
            let topology = try hardware(["hw:cpu_max_sockets": limit], vcpus: vcpus).processor.topology
            #expect(topology.sockets * topology.cores * topology.threads == vcpus)
        }
    }

    @Test("An image that wants more than its flavor allows is refused, and so is what cannot be arranged")
    func refusals() {
        #expect(
            refusal(["hw:cpu_max_sockets": "2"], ["hw_cpu_max_sockets": "4"])
                == "hw_cpu_max_sockets (image property) = '4': the flavor allows at most 2 sockets")
        #expect(
            refusal(["hw:cpu_max_cores": "2"], ["hw_cpu_cores": "4"])
                == "hw_cpu_cores (image property) = '4': at most 2 cores are allowed")
        #expect(
            refusal(["hw:cpu_max_sockets": "1", "hw:cpu_max_cores": "2", "hw:cpu_max_threads": "2"], vcpus: 6)
                == "hw:cpu_max_sockets (flavor extra spec) = '1': 6 vCPUs cannot be arranged in at most 1 sockets, "
                + "2 cores and 2 threads")
        #expect(
            refusal(["hw:cpu_max_sockets": "x"])
                == "hw:cpu_max_sockets (flavor extra spec) = 'x': a whole number from 1 is wanted")
        #expect(
            refusal([:], ["hw_cpu_cores": "0"])
                == "hw_cpu_cores (image property) = '0': a whole number from 1 to 65536 is wanted")
    }
}
