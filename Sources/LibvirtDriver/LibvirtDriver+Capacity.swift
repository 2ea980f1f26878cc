public import Compute
internal import HostTopology
internal import Libvirt
public import Model
internal import Synchronization
internal import Telemetry
internal import XML

/// What libvirt's capabilities say of the host's processor.
struct HostCapabilities: Sendable {
    var architecture = ""
    var cpuModel: String?
    var cpuVendor: String?
    var topology = CPUTopology()
    var features: [String] = []
    /// What libvirt calls the host by, mostly the uuid of its board.
    var hostUUID: String?
    var cells: [HostCell] = []
    /// Whom the processes of guests belong to; `nil` where libvirt does not say.
    var qemuOwner: (user: UInt32, group: UInt32)?

    init(_ document: XMLNode) {
        hostUUID = document.first("host/uuid")?.text
        cells = document.all("host/topology/cells/cell").compactMap { HostCell($0) }
        let access = document.all("host/secmodel").first { $0.first("model")?.text == "dac" }
        let numbers = access?.first("baselabel")?.text.split(separator: ":").map { UInt32($0.drop { $0 == "+" }) } ?? []
        if numbers.count == 2, let user = numbers[0], let group = numbers[1] { qemuOwner = (user, group) }
        guard let cpu = document.first("host/cpu") else { return }
        architecture = cpu.first("arch")?.text ?? ""
        cpuModel = cpu.first("model")?.text
        cpuVendor = cpu.first("vendor")?.text
        features = cpu.all("feature").compactMap { $0["name"] }.sorted()
        if let layout = cpu.first("topology") {
            func count(_ name: String) -> Int { layout[name].flatMap { Int($0) } ?? 1 }
            topology = CPUTopology(
                cells: max(1, document.all("host/topology/cells/cell").count), sockets: count("sockets"),
                cores: count("cores") * count("dies"), threads: count("threads"))
        }
    }
}

extension HostCell {
    /// A cell of libvirt's capabilities; `nil` when it has no number. Only processors that are online are listed with the
    /// threads of their core.
    init?(_ cell: XMLNode) {
        guard let id = cell["id"].flatMap({ Int($0) }) else { return nil }
        var (cpus, cores): (Set<Int>, Set<CPUSet>) = ([], [])
        for cpu in cell.all("cpus/cpu") {
            guard let number = cpu["id"].flatMap({ Int($0) }), (0...CPUSet.highest).contains(number) else { continue }
            guard let siblings = cpu["siblings"].flatMap({ CPUSet(parsing: $0) }) else { continue }
            cpus.insert(number)
            cores.insert(siblings)
        }
        let memory = cell.first("memory").map { Self.kibibytes($0.text, $0["unit"]) } ?? 0
        let pages = cell.all("pages").compactMap { pages -> Pages? in
            guard let size = pages["size"], let count = Int(pages.text) else { return nil }
            let kibibytes = Self.kibibytes(size, pages["unit"])
            guard (1...(1 << 30)).contains(kibibytes), (0...(1 << 32)).contains(count) else { return nil }
            return Pages(sizeKiB: kibibytes, total: count)
        }
        self.init(
            id: id, memoryMiB: memory / 1_024, cpus: CPUSet(cpus),
            cores: cores.sorted { ($0.sorted.first ?? 0) < ($1.sorted.first ?? 0) }, pages: pages,
            socket: cell.all("cpus/cpu").lazy.compactMap { $0["socket_id"].flatMap { Int($0) } }.first)
    }

    private static func kibibytes(_ text: String, _ unit: String?) -> Int {
        // No machine has more, and nothing below overflows.
        let number = min(max(Int(text) ?? 0, 0), 1 << 40)
        return switch unit {
        case "b", "bytes": number / 1_024
        case "MiB": number * 1_024
        case "GiB": number * 1_048_576
        default: number
        }
    }
}

extension LibvirtDriver {
    public func capacity() async throws -> HostCapacity {
        let connection = try await connection(.work)
        return try await translated("looking at the host") {
            let node = try await connection.nodeInfo()
            let capabilities = try await hostCapabilities(connection)
            let (disk, isFresh) = try await diskMeter.read()
            var capacity = HostCapacity(
                hypervisorHostname: try await connection.hostname(),
                hypervisorType: try await connection.hypervisorType(),
                hypervisorVersion: try await connection.hypervisorVersion().number,
                total: Resources(
                    vcpus: node.cpus, memoryMiB: Int(node.memoryKiB / 1_024), diskGiB: Int(disk.totalBytes >> 30)),
                diskAvailableLeastGiB: isFresh ? Int((disk.freeBytes - disk.promisedBytes) >> 30) : nil,
                cpuModel: capabilities.cpuModel, cpuVendor: capabilities.cpuVendor,
                architecture: capabilities.architecture, cpuTopology: capabilities.topology,
                cpuFeatures: capabilities.features, uptimeSeconds: Self.uptime())
            capacity.sharedStorage = disk.sharedKind
            capacity.cells = capabilities.cells
            capacity.traits = await traits(connection, capabilities)
            return capacity
        }
    }

    /// What guests can have here. Read once a connection: what libvirt says of it takes a while, and stays.
    private func traits(_ connection: LibvirtConnection, _ capabilities: HostCapabilities) async -> [String] {
        let key = ObjectIdentifier(connection)
        if let known = knownTraits.withLock({ $0?.key == key ? $0?.names : nil }) { return known }
        var features = Set(capabilities.features)
        var (found, secureMachine): (HostAbilities?, HostAbilities?)
        var isTPMEnabled = false
        do {
            let settings = try ready().settings
            isTPMEnabled = settings.isTPMEnabled
            found = try await abilities(
                machine: settings.machineType, architecture: settings.architecture, virtType: settings.virtType)
            if settings.architecture == "x86_64", found?.hasSecureBoot == false {
                // A hypervisor without that machine type has no secure boot.
                secureMachine = try? await abilities(
                    machine: "q35", architecture: settings.architecture, virtType: settings.virtType)
            }
            let document = try await connection.domainCapabilities(
                architecture: settings.architecture, machine: settings.machineType, type: settings.virtType)
            if let model = try HostTraits.hostModel(try XMLNode(parsing: document)) {
                let expanded = try await connection.baselineCPU(
                    of: [model], architecture: settings.architecture, machine: settings.machineType,
                    type: settings.virtType)
                features = HostTraits.features(try XMLNode(parsing: expanded))
            }
        } catch {
            // A hypervisor that does not tell its processor's features has none that guests may be placed by.
            log.notice("the features of guests' processors are not known", ["error": LoggedError(error)])
        }
        let names = HostTraits.names(
            architecture: capabilities.architecture, threadsPerCore: capabilities.topology.threads,
            features: features, abilities: found, secureMachine: secureMachine, isTPMEnabled: isTPMEnabled)
        knownTraits.withLock { $0 = (key, names) }
        return names
    }

    public func hostMetrics() async throws -> [HostMetric] {
        let connection = try await connection(.statistics)
        return try await translated("measuring the host's processors") {
            let times = try await connection.nodeCPUTimes()
            let frequency = try await connection.nodeInfo().megahertz
            return processorMeter.withLock { $0.metrics(times, frequency: frequency, at: WallClock.now()) }
        }
    }

    func hostCapabilities(_ connection: LibvirtConnection) async throws -> HostCapabilities {
        try await translated("reading libvirt's capabilities") {
            let text = try await connection.capabilities()
            do {
                return HostCapabilities(try XMLNode(parsing: text))
            } catch {
                throw Failure(.hypervisor, "libvirt's capabilities cannot be read: \(error)", isRetriable: true)
            }
        }
    }

    /// Free and all bytes of the instances' file system, and those that sparse disks may still come to take.
    static func diskSpace(
        at instancesPath: String, number: FileSystemNumber
    ) throws(Failure) -> DiskSpace {
        let (free, total) = try Files.space(at: instancesPath)
        var promised: Int64 = 0
        for name in try Files.names(in: instancesPath) where isLowerCaseUUID(name) {
            let folder = try InstanceFolder(InstanceID(name), in: instancesPath)
            for (file, format) in try DiskInfo.read(folder).formats {
                let path = folder.path + "/" + file
                let size = format == .qcow2 ? try OverlayHeader.read(path)?.virtualSizeBytes : Files.size(path)
                guard let size, let taken = Files.allocatedBytes(path) else { continue }
                promised += max(0, size - taken)
            }
        }
        return DiskSpace(
            freeBytes: free, totalBytes: total, promisedBytes: promised,
            sharedKind: try Files.sharedFileSystem(at: instancesPath, number: number))
    }

    private static func uptime() -> Int64? {
        guard let bytes = try? Files.read("/proc/uptime", limit: 64) else { return nil }
        return Int64(String(decoding: bytes.prefix { $0 != UInt8(ascii: ".") }, as: UTF8.self))
    }
}
