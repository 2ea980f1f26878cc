public import Model
internal import RPC

/// A host of the simulation, as the control plane knows it.
public struct SimulatedHost: Sendable, Hashable {
    public var name: HostName
    /// What it shows to conductors.
    public var secret: String
    /// What conductors show to it; no two hosts have the same.
    public var conductorSecret: String

    public init(name: HostName, secret: String, conductorSecret: String) {
        (self.name, self.secret, self.conductorSecret) = (name, secret, conductorSecret)
    }
}

/// What a host is at.
struct HostState {
    struct Guest {
        var claim: Resources
        var isBuilt = false
        /// Whether a deletion came while it was being built.
        var isDoomed = false
    }

    struct Operation {
        enum Kind: Sendable, Hashable {
            case build, deletion
            /// An image of the guest is to be filled.
            case snapshot(ImageID)
        }

        let kind: Kind
        var header: CommandHeader
        /// Whether its end has come.
        var isOver = false
        var outcome: Failure?
    }

    let host: SimulatedHost
    let uuid: String
    var guests: [InstanceID: Guest] = [:]
    var operations: [TaskID: Operation] = [:]
    var fences: [InstanceID: Fence] = [:]
    var sequence: Int64 = 0
    /// The last report that a conductor has.
    var taken: HostReport?
    var isReporting = false
    /// Whether something is to be told.
    var isDirty = false
    var isBeating = false
    var isAway = false

    init(_ host: SimulatedHost, uuid: String) { (self.host, self.uuid) = (host, uuid) }

    /// What each host has.
    static let total = Resources(vcpus: 64, memoryMiB: 524_288, diskGiB: 4_000)
    static let reserved = Resources(vcpus: 0, memoryMiB: 512, diskGiB: 0)

    var used: Resources { guests.values.reduce(Self.reserved) { $0 + $1.claim } }

    mutating func nextSequence() -> Int64 {
        sequence += 1
        return sequence
    }

    mutating func report(at moment: Timestamp) -> HostReport {
        var report = HostReport(
            host: host.name, uuid: uuid, hypervisorHostname: host.name.rawValue, hypervisorType: "QEMU",
            hypervisorVersion: 7_002_000, hostAddress: "127.0.0.1", total: Self.total, reserved: Self.reserved,
            used: used, ratios: AllocationRatios(), diskAvailableLeastGiB: nil,
            runningInstances: guests.values.count { $0.isBuilt }, workload: operations.values.count { !$0.isOver },
            cpuModel: "EPYC", cpuVendor: "AMD", architecture: "x86_64",
            cpuTopology: CPUTopology(cells: 1, sockets: 2, cores: 16, threads: 2), cpuFeatures: ["avx2", "sse4.2"],
            uptimeSeconds: nil, sequence: nextSequence(), measuredAt: moment)
        report.ioWorkload = guests.values.count { !$0.isBuilt }
        return report
    }

    /// Takes a build's claim. Throws what a real host answers that cannot fit the instance.
    mutating func claim(_ instance: Instance) throws(Failure) {
        guard guests[instance.id] == nil else { return }
        let (asked, free) = (Resources(instance.flavor), Self.total - used)
        let ratio = AllocationRatios().cpu
        let processors = Int(Double(Self.total.vcpus) * ratio) - used.vcpus
        guard asked.vcpus <= processors, asked.memoryMiB <= free.memoryMiB, asked.diskGiB <= free.diskGiB else {
            throw Failure(
                .insufficientResources,
                "\(asked.vcpus) vCPUs, \(asked.memoryMiB) MiB and \(asked.diskGiB) GiB were asked for, "
                    + "\(processors), \(free.memoryMiB) and \(free.diskGiB) are free", isRetriable: true)
        }
        guests[instance.id] = Guest(claim: asked)
    }

    /// Forgets the operations that are over, when there are many.
    mutating func forgetOperations() {
        guard operations.count > 1_000 else { return }
        operations = operations.filter { !$0.value.isOver }
    }

    /// Refuses a command that is older than another of the same instance.
    mutating func admit(_ header: CommandHeader) throws(Failure) {
        if let highest = fences[header.instance], header.fence < highest {
            throw Failure(.conflict, "a newer command for instance \(header.instance) has been seen")
        }
        fences[header.instance] = header.fence
    }
}
