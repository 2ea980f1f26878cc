internal import CLibvirt
internal import Synchronization

/// The host as libvirt sees it.
public struct NodeInfo: Sendable, Hashable {
    /// CPU model or architecture: `x86_64`.
    public let model: String
    public let memoryKiB: UInt64
    /// CPUs that are online.
    public let cpus: Int
    /// Expected frequency; 0 when it is not known.
    public let megahertz: Int
    public let numaNodes: Int
    public let socketsPerNode: Int
    public let coresPerSocket: Int
    public let threadsPerCore: Int
}

/// A version as libvirt packs it: major × 1,000,000 + minor × 1,000 + release.
public struct PackedVersion: Sendable, Hashable, Comparable, CustomStringConvertible {
    public let number: Int

    public init(number: Int) { self.number = number }
    public init(_ major: Int, _ minor: Int, _ release: Int) { number = major * 1_000_000 + minor * 1_000 + release }

    public var description: String { "\(number / 1_000_000).\(number / 1_000 % 1_000).\(number % 1_000)" }
    public static func < (left: PackedVersion, right: PackedVersion) -> Bool { left.number < right.number }
}

extension LibvirtConnection {
    public func nodeInfo() async throws(LibvirtError) -> NodeInfo {
        try await call("virNodeGetInfo") { (connection) throws(LibvirtError) in
            var info = virNodeInfo()
            guard virNodeGetInfo(connection, &info) == 0 else { throw .last("virNodeGetInfo") }
            return NodeInfo(
                model: apusNodeModel(&info).map { String(cString: $0) } ?? "", memoryKiB: UInt64(info.memory),
                cpus: Int(info.cpus), megahertz: Int(info.mhz), numaNodes: Int(info.nodes),
                socketsPerNode: Int(info.sockets), coresPerSocket: Int(info.cores),
                threadsPerCore: Int(info.threads))
        }
    }

    /// Memory of the host that nothing uses, in bytes.
    public func freeMemory() async throws(LibvirtError) -> UInt64 {
        try await call("virNodeGetFreeMemory") { (connection) throws(LibvirtError) in
            virResetLastError()
            let bytes = virNodeGetFreeMemory(connection)
            // 0 is both an answer and the sign of an error.
            guard bytes > 0 || virGetLastErrorCode() == 0 else { throw .last("virNodeGetFreeMemory") }
            return bytes
        }
    }

    /// What the host and the hypervisor offer, as XML. Read once a connection.
    public func capabilities() async throws(LibvirtError) -> String {
        try await cachedText("capabilities", "virConnectGetCapabilities") { virConnectGetCapabilities($0) }
    }

    /// What domains of a kind may have, as XML; `nil` means the hypervisor's default. Read once a connection and kind.
    public func domainCapabilities(
        emulator: String? = nil, architecture: String? = nil, machine: String? = nil, type: String? = nil
    ) async throws(LibvirtError) -> String {
        let key = [emulator, architecture, machine, type].map { $0 ?? "" }.joined(separator: "\n")
        return try await cachedText("domain\n" + key, "virConnectGetDomainCapabilities") {
            virConnectGetDomainCapabilities($0, emulator, architecture, machine, type, 0)
        }
    }

    /// The host's name as the daemon knows it.
    public func hostname() async throws(LibvirtError) -> String {
        try await call("virConnectGetHostname") { (connection) throws(LibvirtError) in
            guard let name = virConnectGetHostname(connection) else { throw .last("virConnectGetHostname") }
            return takeString(name)
        }
    }

    /// `QEMU`, `TEST`, `LXC` …
    public func hypervisorType() async throws(LibvirtError) -> String {
        try await call("virConnectGetType") { (connection) throws(LibvirtError) in
            guard let type = virConnectGetType(connection) else { throw .last("virConnectGetType") }
            return String(cString: type)
        }
    }

    /// The version of QEMU, where that is the hypervisor.
    public func hypervisorVersion() async throws(LibvirtError) -> PackedVersion {
        try await call("virConnectGetVersion") { (connection) throws(LibvirtError) in
            var version: UInt = 0
            guard virConnectGetVersion(connection, &version) == 0 else { throw .last("virConnectGetVersion") }
            return PackedVersion(number: Int(clamping: version))
        }
    }

    /// The version of the daemon (not of the library in this process).
    public func libvirtVersion() async throws(LibvirtError) -> PackedVersion {
        try await call("virConnectGetLibVersion") { (connection) throws(LibvirtError) in
            var version: UInt = 0
            guard virConnectGetLibVersion(connection, &version) == 0 else { throw .last("virConnectGetLibVersion") }
            return PackedVersion(number: Int(clamping: version))
        }
    }

    /// A round trip to the daemon that does nothing else: fails when the connection is of no use.
    public func ping() async throws(LibvirtError) { _ = try await libvirtVersion() }

    // These texts are large and slow to make, and change only with the daemon, hence with the connection.
    private func cachedText(
        _ key: String, _ name: String,
        _ read: @escaping @Sendable (virConnectPtr) -> UnsafeMutablePointer<CChar>?
    ) async throws(LibvirtError) -> String {
        if let known = cache.withLock({ $0[key] }) { return known }
        let text = try await call(name) { (connection) throws(LibvirtError) in
            guard let text = read(connection) else { throw .last(name) }
            return takeString(text)
        }
        cache.withLock { cache in
            // Callers ask for a handful of kinds; more would be a caller that makes kinds up.
            if cache.count >= 64 { cache.removeAll() }
            cache[key] = text
        }
        return text
    }
}
