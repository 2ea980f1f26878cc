/// How a guest's CPUs are arranged.
public struct VirtualTopology: Sendable, Hashable {
    public var sockets: Int
    public var cores: Int
    public var threads: Int

    /// The arrangement of `vcpus` that the flavor and the image allow and come closest to what they want.
    init(vcpus: Int, _ reader: HardwareReader) throws(HardwareError) {
        let limits = try Part.allCases.map { (part) throws(HardwareError) in try Self.limit(of: part, reader) }
        let wanted = try Self.wishes(reader, limits: limits)
        var best: (met: Int, topology: VirtualTopology)?
        // Divisors from the largest down: more sockets and cores before more threads, more sockets before more cores.
        for possible in Self.arrangements(of: vcpus, within: limits) {
            let met = zip(wanted, possible.parts).count { $0 == $1 }
            if met > best?.met ?? -1 { best = (met, possible) }
        }
        guard let best else { throw Self.impossible(vcpus, limits, reader) }
        self = best.topology
    }

    private init(sockets: Int, cores: Int, threads: Int) {
        (self.sockets, self.cores, self.threads) = (sockets, cores, threads)
    }

    private enum Part: String, CaseIterable {
        case sockets, cores, threads
    }

    private var parts: [Int] { [sockets, cores, threads] }

    /// What the flavor allows of a part; the image may narrow it.
    private static func limit(of part: Part, _ reader: HardwareReader) throws(HardwareError) -> Int {
        let name = "cpu_max_" + part.rawValue
        let limit = try reader.whole(spec: "hw:" + name) ?? PropertyTable.count.upperBound
        guard let setting = reader.property("hw_" + name) else { return limit }
        let own = try setting.whole(PropertyTable.count)
        guard own <= limit else { throw HardwareError(setting, "the flavor allows at most \(limit) \(part.rawValue)") }
        return own
    }

    /// What is wanted of sockets, cores and threads: the image's wishes if it has any, else the flavor's.
    private static func wishes(_ reader: HardwareReader, limits: [Int]) throws(HardwareError) -> [Int?] {
        var (images, flavors): ([Int?], [Int?]) = ([], [])
        for (part, limit) in zip(Part.allCases, limits) {
            let image = reader.property("hw_cpu_" + part.rawValue)
            let value = try image?.whole(PropertyTable.count)
            if let image, let value, value > limit {
                throw HardwareError(image, "at most \(limit) \(part.rawValue) are allowed")
            }
            images.append(value)
            // A flavor's wish above the maximum is dropped, for the maximum may be the image's.
            flavors.append(try reader.whole(spec: "hw:cpu_" + part.rawValue).flatMap { $0 > limit ? nil : $0 })
        }
        return images.contains { $0 != nil } ? images : flavors
    }

    /// All within the limits, by sockets × cores, sockets, threads, each from the most to the least.
    private static func arrangements(of vcpus: Int, within limits: [Int]) -> [VirtualTopology] {
        var found: [VirtualTopology] = []
        for threads in 1...max(1, min(vcpus, limits[2])) where vcpus % threads == 0 {
            let rest = vcpus / threads
            for cores in 1...max(1, min(rest, limits[1])) where rest % cores == 0 && rest / cores <= limits[0] {
                found.append(VirtualTopology(sockets: rest / cores, cores: cores, threads: threads))
            }
        }
        return found
    }

    private static func impossible(_ vcpus: Int, _ limits: [Int], _ reader: HardwareReader) -> HardwareError {
        let reason =
            "\(vcpus) vCPUs cannot be arranged in at most \(limits[0]) sockets, \(limits[1]) cores and "
            + "\(limits[2]) threads"
        let given = Part.allCases.lazy.compactMap { part in
            reader.property("hw_cpu_max_" + part.rawValue) ?? reader.spec("hw:cpu_max_" + part.rawValue)
        }.first
        // Without a limit given, one socket a CPU is within the default one up to 65,536 CPUs.
        return HardwareError(
            given ?? Setting(name: "hw:cpu_max_sockets", origin: .flavor, value: String(limits[0])), reason)
    }
}
