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
}
