/// What changes of a host's report while instances come and go; a member that is `nil` is as it was.
public struct HostUsage: Sendable, Hashable, Codable {
    public var used: Resources?
    public var runningInstances: Int?
    public var workload: Int?
    public var diskAvailableLeastGiB: Int?
    public var strays: HostStrays?
    /// Instances being built, copied or moved.
    public var ioWorkload: Int?
    /// Builds that failed since the last one that succeeded.
    public var failedBuilds: Int?
    public var metrics: [HostMetric]?
    public var cells: [HostCellReport]?
    public var pciPools: [PCIPool]?
    public var mediatedDevicePools: [MediatedDevicePool]?

    public init() {}

    /// Whether it says that nothing has changed.
    public var isEmpty: Bool { self == HostUsage() }
}

/// One measurement of a host, as MetricsFilter and MetricsWeigher read it.
public struct HostMetric: Sendable, Hashable, Codable {
    /// Nova's name: `cpu.user.percent`.
    public var name: String
    /// Percentages are shares of 1, times are nanoseconds since the host booted, frequencies MHz.
    public var value: Double
    /// What measured it: `libvirt.LibvirtDriver`, as Nova's monitors say.
    public var source: String
    public var measuredAt: Timestamp

    public init(name: String, value: Double, source: String, measuredAt: Timestamp) {
        (self.name, self.value, self.source, self.measuredAt) = (name, value, source, measuredAt)
    }
}

extension HostReport {
    /// What brings `base` to this report; `nil` when a host's usage alone does not say it, so that the whole must be told.
    public func usage(since base: HostReport) -> HostUsage? {
        var usage = HostUsage()
        if used != base.used { usage.used = used }
        if runningInstances != base.runningInstances { usage.runningInstances = runningInstances }
        if workload != base.workload { usage.workload = workload }
        if diskAvailableLeastGiB != base.diskAvailableLeastGiB { usage.diskAvailableLeastGiB = diskAvailableLeastGiB }
        if strays != base.strays { usage.strays = strays ?? HostStrays() }
        if ioWorkload != base.ioWorkload { usage.ioWorkload = ioWorkload }
        if failedBuilds != base.failedBuilds { usage.failedBuilds = failedBuilds }
        if metrics != base.metrics { usage.metrics = metrics ?? [] }
        if pciPools != base.pciPools { usage.pciPools = pciPools ?? [] }
        if mediatedDevicePools != base.mediatedDevicePools { usage.mediatedDevicePools = mediatedDevicePools ?? [] }
        if cells != base.cells { usage.cells = cells ?? [] }
        var brought = base
        brought.apply(usage)
        return brought.describesTheSame(as: self) ? usage : nil
    }

    /// Takes over what has changed.
    public mutating func apply(_ usage: HostUsage) {
        used = usage.used ?? used
        runningInstances = usage.runningInstances ?? runningInstances
        workload = usage.workload ?? workload
        diskAvailableLeastGiB = usage.diskAvailableLeastGiB ?? diskAvailableLeastGiB
        ioWorkload = usage.ioWorkload ?? ioWorkload
        failedBuilds = usage.failedBuilds ?? failedBuilds
        if let told = usage.strays { strays = told.isEmpty ? nil : told }
        if let told = usage.pciPools { pciPools = told.isEmpty ? nil : told }
        if let told = usage.mediatedDevicePools { mediatedDevicePools = told.isEmpty ? nil : told }
        if let told = usage.cells { cells = told.isEmpty ? nil : told }
        if let told = usage.metrics { metrics = told.isEmpty ? nil : told }
    }

    /// Moves the moment of measuring, and the time since the boot with it.
    public mutating func renew(sequence: Int64, measuredAt moment: Timestamp) {
        uptimeSeconds = uptime(at: moment)
        (self.sequence, measuredAt) = (sequence, moment)
    }

    /// Seconds since the host's boot at `moment`; `nil` when the host does not tell.
    public func uptime(at moment: Timestamp) -> Int64? {
        uptimeSeconds.map { max(0, $0 + (moment.microseconds - measuredAt.microseconds) / 1_000_000) }
    }

    /// Whether the two say the same of the host, but for the moment; an uptime within seconds of each other is the same.
    func describesTheSame(as other: HostReport) -> Bool {
        var moved = self
        moved.renew(sequence: other.sequence, measuredAt: other.measuredAt)
        switch (moved.uptimeSeconds, other.uptimeSeconds) {
        case (nil, nil): break
        case (let mine?, let its?) where abs(mine - its) <= 5: moved.uptimeSeconds = its
        default: return false
        }
        return moved == other
    }
}

extension HostReport {
    /// Refuses what no host can have: a captured one may report anything, and sums of it must not overflow.
    public func check() throws(Failure) {
        let amounts = [total, reserved, used].flatMap { [$0.vcpus, $0.memoryMiB, $0.diskGiB] }
        let counts = [
            runningInstances, workload, hypervisorVersion, cpuTopology.cells, cpuTopology.sockets, cpuTopology.cores,
            cpuTopology.threads, ioWorkload ?? 0, failedBuilds ?? 0,
            guestOverheadMiB ?? 0,
        ]
        let possible = -(1 << 40)...(1 << 40)
        let texts = [
            host.rawValue, uuid, hypervisorHostname, hypervisorType, hostAddress, cpuModel ?? "", cpuVendor ?? "",
            architecture, sharedStorage ?? "",
        ]
        let ratios = [ratios.cpu, ratios.memory, ratios.disk]
        let lists = [cpuFeatures, traits ?? [], (metrics ?? []).map(\.name)]
        guard amounts.allSatisfy(possible.contains), counts.allSatisfy((0...(1 << 40)).contains),
            possible.contains(diskAvailableLeastGiB ?? 0),
            (0...(1 << 40)).contains(uptimeSeconds ?? 0),
            ratios.allSatisfy({ $0 >= 0 && $0 <= 1_000_000 }), texts.allSatisfy({ $0.utf8.count <= 1_024 }),
            lists.allSatisfy({ list in list.count <= 4_096 && list.allSatisfy { $0.utf8.count <= 255 } }),
            (metrics ?? []).allSatisfy(\.value.isFinite), (cells ?? []).count <= 1_024, (pciPools ?? []).count <= 1_024,
            (pciPools ?? []).allSatisfy(\.isPossible),
            (mediatedDevicePools ?? []).count <= 1_024, (mediatedDevicePools ?? []).allSatisfy(\.isPossible),
            (cells ?? []).allSatisfy(\.isPossible), sequence >= 0, sequence < 1 << 62, measuredAt.isPossible
        else {
            throw Failure(.invalidParameters, "the report of host \(host) holds a value that no host can have")
        }
    }
}

extension Timestamp {
    /// Whether it lies between 1970 and the year 10000.
    var isPossible: Bool { (0...253_402_300_800_000_000).contains(microseconds) }
}
