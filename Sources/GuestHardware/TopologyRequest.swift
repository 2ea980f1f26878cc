internal import Model

/// What a guest asks of its host's processors and memory: cells, processors of its own, the size of pages.
public struct TopologyRequest: Sendable, Hashable {
    /// One NUMA cell of the guest.
    public struct Cell: Sendable, Hashable {
        public var vcpus: [Int]
        public var memoryMiB: Int
    }

    public enum ThreadPolicy: String, Sendable, Hashable, CaseIterable {
        case prefer, isolate, require
    }

    public enum EmulatorPolicy: String, Sendable, Hashable, CaseIterable {
        case share, isolate
    }

    public enum PageSize: Sendable, Hashable {
        /// The host's smallest.
        case small
        /// Any but the smallest.
        case large
        case any
        case exactly(kibibytes: Int)
    }

    /// In the guest's numbering; at least one.
    public var cells: [Cell]
    /// The vCPUs that get a processor of the host each, for themselves.
    public var dedicated: Set<Int>
    public var threadPolicy: ThreadPolicy?
    public var emulatorPolicy: EmulatorPolicy?
    public var pageSize: PageSize?
    public var isMemoryLocked: Bool

    /// vCPUs that share the host's processors with those of other guests.
    public var sharedCount: Int { cells.reduce(0) { $0 + $1.vcpus.count } - dedicated.count }
}

extension TopologyRequest {
    private enum Policy: String, CaseIterable {
        case shared, dedicated, mixed
    }

    /// How many cells a guest may have.
    static let cellLimit = 64

    /// What the flavor and the image ask for; `nil` when it is nothing of this.
    init?(_ reader: HardwareReader, flavor: Flavor) throws(HardwareError) {
        let policy = try Self.policy(reader)
        let page = try Self.pageSize(reader)
        let nodes = try Self.one(reader, "numa_nodes")
        isMemoryLocked = try reader.agreedFlag("locked_memory") ?? false
        if isMemoryLocked, page == nil, let setting = try reader.agreed("locked_memory") {
            throw HardwareError(setting, "hw:mem_page_size is wanted with it")
        }
        threadPolicy = try Self.threadPolicy(reader, policy)
        let emulator = reader.spec("hw:emulator_threads_policy")
        emulatorPolicy = try emulator.map { (setting) throws(HardwareError) in try setting.choice() }
        if let emulator, emulatorPolicy == .isolate, policy == .shared {
            throw HardwareError(emulator, "hw:cpu_policy dedicated or mixed is wanted with it")
        }
        dedicated = try Self.dedicated(reader, policy, vcpus: flavor.vcpus)
        pageSize = page
        guard nodes != nil || page != nil || policy != .shared else {
            if let stray = Self.firstCell(reader) { throw HardwareError(stray, "hw:numa_nodes is wanted with it") }
            return nil
        }
        cells = try Self.cells(reader, nodes, flavor)
    }

    private static func policy(_ reader: HardwareReader) throws(HardwareError) -> Policy {
        let (flavor, image) = (reader.spec("hw:cpu_policy"), reader.property("hw_cpu_policy"))
        let images: Policy? = try image.map { (setting) throws(HardwareError) in try setting.choice() }
        guard let flavor else { return images ?? .shared }
        let flavors: Policy = try flavor.choice()
        guard let image, let images else { return flavors }
        switch (flavors, images) {
        case (.dedicated, _), (.shared, .shared), (.mixed, .mixed), (.mixed, .shared): return flavors
        default: throw HardwareError(image, "the flavor says \(flavors.rawValue)")
        }
    }

    private static func threadPolicy(
        _ reader: HardwareReader, _ policy: Policy
    ) throws(HardwareError) -> ThreadPolicy? {
        let (flavor, image) = (reader.spec("hw:cpu_thread_policy"), reader.property("hw_cpu_thread_policy"))
        guard let setting = flavor ?? image else { return nil }
        guard policy != .shared else {
            throw HardwareError(setting, "hw:cpu_policy dedicated or mixed is wanted with it")
        }
        let flavors: ThreadPolicy? = try flavor.map { (setting) throws(HardwareError) in try setting.choice() }
        guard let image else { return flavors }
        let images: ThreadPolicy = try image.choice()
        guard flavors == nil || flavors == .prefer || flavors == images else {
            throw HardwareError(image, "the flavor says \(flavors?.rawValue ?? "")")
        }
        return images
    }

    private static func dedicated(
        _ reader: HardwareReader, _ policy: Policy, vcpus: Int
    ) throws(HardwareError) -> Set<Int> {
        let all = Set(0..<vcpus)
        let setting = reader.spec("hw:cpu_dedicated_mask")
        guard policy == .mixed else {
            if let setting { throw HardwareError(setting, "hw:cpu_policy mixed is wanted with it") }
            return policy == .dedicated ? all : []
        }
        guard let setting else {
            let given = reader.spec("hw:cpu_policy") ?? reader.property("hw_cpu_policy")
            throw HardwareError(
                given ?? Setting(name: "hw:cpu_policy", origin: .flavor, value: "mixed"),
                "hw:cpu_dedicated_mask is wanted with it")
        }
        // A mask that only takes out stands for all but those.
        let text = setting.value.hasPrefix("^") ? "0-\(vcpus - 1),\(setting.value)" : setting.value
        guard let found = CPUSet(parsing: text)?.numbers, found.isSubset(of: all), found != all else {
            throw HardwareError(setting, "some, but not all, of the vCPUs 0 to \(vcpus - 1) are wanted")
        }
        return found
    }

    private static func pageSize(_ reader: HardwareReader) throws(HardwareError) -> PageSize? {
        let (flavor, image) = (reader.spec("hw:mem_page_size"), reader.property("hw_mem_page_size"))
        guard let flavor else {
            if let image { throw HardwareError(image, "the flavor does not leave the size of pages to the image") }
            return nil
        }
        let flavors = try read(flavor)
        guard let image else { return flavors }
        guard flavors == .large || flavors == .any else {
            throw HardwareError(image, "the flavor does not leave the size of pages to the image")
        }
        return try read(image)
    }

    static func read(_ setting: Setting) throws(HardwareError) -> PageSize {
        switch setting.value {
        case "small": return .small
        case "large": return .large
        case "any": return .any
        default: break
        }
        let digits = setting.value.prefix { ("0"..."9").contains($0) }
        let unit = setting.value.dropFirst(digits.count).lowercased()
        let factors = ["": 1, "k": 1, "kb": 1, "m": 1_024, "mb": 1_024, "g": 1_048_576, "gb": 1_048_576]
        guard let number = Int(digits), (1...67_108_864).contains(number), let factor = factors[unit],
            number * factor <= 67_108_864
        else {
            throw HardwareError(
                setting, "small, large, any, or a size is wanted: a number of KiB, or one with a unit (2MB, 1GB)")
        }
        return .exactly(kibibytes: number * factor)
    }

    /// A setting that either the flavor or the image may have.
    private static func one(_ reader: HardwareReader, _ name: String) throws(HardwareError) -> Setting? {
        guard let flavor = reader.spec("hw:" + name) else { return reader.property("hw_" + name) }
        if let image = reader.property("hw_" + name) { throw HardwareError(image, "the flavor has it, too") }
        return flavor
    }

    private static func firstCell(_ reader: HardwareReader) -> Setting? {
        for (names, prefix, origin) in [
            (reader.specs, "hw:", HardwareError.Origin.flavor), (reader.properties, "hw_", .image),
        ] {
            let found = names.keys.sorted().first { name in
                name.hasPrefix(prefix + "numa_cpus.") || name.hasPrefix(prefix + "numa_mem.")
            }
            if let found { return Setting(name: found, origin: origin, value: names[found] ?? "") }
        }
        return nil
    }

    private static func cells(
        _ reader: HardwareReader, _ nodes: Setting?, _ flavor: Flavor
    ) throws(HardwareError) -> [Cell] {
        let count = try nodes?.whole(1...cellLimit) ?? 1
        let given = nodes ?? Setting(name: "hw:numa_nodes", origin: .flavor, value: "\(count)")
        guard firstCell(reader) != nil else {
            guard flavor.vcpus % count == 0, flavor.memoryMiB % count == 0 else {
                throw HardwareError(
                    given,
                    "\(flavor.vcpus) vCPUs and \(flavor.memoryMiB) MiB cannot be shared out evenly; "
                        + "hw:numa_cpus.N and hw:numa_mem.N say how else")
            }
            let (vcpus, memory) = (flavor.vcpus / count, flavor.memoryMiB / count)
            return (0..<count).map { Cell(vcpus: Array($0 * vcpus..<($0 + 1) * vcpus), memoryMiB: memory) }
        }
        var (made, seen): ([Cell], Set<Int>) = ([], [])
        for number in 0..<count {
            guard let cpus = try one(reader, "numa_cpus.\(number)"), let memory = try one(reader, "numa_mem.\(number)")
            else { throw HardwareError(given, "hw:numa_cpus.\(number) and hw:numa_mem.\(number) are wanted, too") }
            guard let numbers = CPUSet(parsing: cpus.value)?.numbers, numbers.isSubset(of: 0..<flavor.vcpus),
                numbers.isDisjoint(with: seen)
            else { throw HardwareError(cpus, "vCPUs from 0 to \(flavor.vcpus - 1) that no other cell has are wanted") }
            seen.formUnion(numbers)
            made.append(Cell(vcpus: numbers.sorted(), memoryMiB: try memory.whole(1...(1 << 30))))
        }
        guard seen.count == flavor.vcpus, made.reduce(0, { $0 + $1.memoryMiB }) == flavor.memoryMiB else {
            throw HardwareError(
                given,
                "the cells have \(seen.count) of \(flavor.vcpus) vCPUs and "
                    + "\(made.reduce(0) { $0 + $1.memoryMiB }) of \(flavor.memoryMiB) MiB")
        }
        return made
    }
}
