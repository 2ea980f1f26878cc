internal import CLibvirt
internal import Glibc

/// How long the host's processors, all together, have done what since the boot, in nanoseconds.
public struct NodeCPUTimes: Sendable, Hashable {
    public var kernel: UInt64 = 0
    public var user: UInt64 = 0
    public var idle: UInt64 = 0
    public var iowait: UInt64 = 0

    public init() {}

    /// What a libvirt field's name says; unknown ones are left alone.
    mutating func set(_ field: String, _ value: UInt64) {
        switch field {
        case "kernel": kernel = value
        case "user": user = value
        case "idle": idle = value
        case "iowait": iowait = value
        default: break
        }
    }
}

extension LibvirtConnection {
    public func nodeCPUTimes() async throws(LibvirtError) -> NodeCPUTimes {
        try await call("virNodeGetCPUStats") { (connection) throws(LibvirtError) in
            let all = Int32(VIR_NODE_CPU_STATS_ALL_CPUS.rawValue)
            var count: Int32 = 0
            guard virNodeGetCPUStats(connection, all, nil, &count, 0) == 0 else { throw .last("virNodeGetCPUStats") }
            var fields = [virNodeCPUStats](repeating: virNodeCPUStats(), count: Int(max(0, min(count, 64))))
            count = Int32(fields.count)
            guard virNodeGetCPUStats(connection, all, &fields, &count, 0) == 0 else {
                throw .last("virNodeGetCPUStats")
            }
            var times = NodeCPUTimes()
            for field in fields.prefix(Int(max(0, count))) {
                let name = withUnsafeBytes(of: field.field) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
                times.set(name, field.value)
            }
            return times
        }
    }

    /// The CPU that all of `descriptions` (`<cpu>` documents) can give to a guest, with every feature spelled out, as a
    /// `<cpu>` document.
    public func baselineCPU(
        of descriptions: [String], emulator: String? = nil, architecture: String? = nil, machine: String? = nil,
        type: String? = nil
    ) async throws(LibvirtError) -> String {
        try await call("virConnectBaselineHypervisorCPU") { (connection) throws(LibvirtError) in
            var copies: [UnsafePointer<CChar>?] = descriptions.map { UnsafePointer(strdup($0)) }
            defer { for copy in copies { free(UnsafeMutablePointer(mutating: copy)) } }
            let text = virConnectBaselineHypervisorCPU(
                connection, emulator, architecture, machine, type, &copies, UInt32(copies.count),
                UInt32(VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES.rawValue))
            guard let text else { throw .last("virConnectBaselineHypervisorCPU") }
            return takeString(text)
        }
    }

    /// The host's processors on which each of the first `count` vCPUs of a domain may run.
    /// - Parameter hostCPUs: up to which number the host's processors are told, 1 to 65,536.
    public func vcpuPins(
        of reference: DomainReference, count: Int, hostCPUs: Int
    ) async throws(LibvirtError) -> [Set<Int>] {
        let (rows, width) = (max(0, min(count, 4_096)), (max(1, min(hostCPUs, 65_536)) + 7) / 8)
        return try await call("virDomainGetVcpuPinInfo") { (connection) throws(LibvirtError) in
            let domain = try DomainHandle(reference, on: connection)
            var maps = [UInt8](repeating: 0, count: rows * width)
            let told = virDomainGetVcpuPinInfo(domain.pointer, Int32(rows), &maps, Int32(width), 0)
            guard told >= 0 else { throw .last("virDomainGetVcpuPinInfo") }
            return (0..<min(rows, Int(told))).map { row in
                Set((0..<width * 8).filter { maps[row * width + $0 / 8] & (1 << UInt8($0 % 8)) != 0 })
            }
        }
    }
}
