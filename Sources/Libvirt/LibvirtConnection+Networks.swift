internal import CLibvirt
internal import Glibc

/// A fixed answer of a network's DHCP server.
public struct DHCPHost: Sendable, Hashable {
    /// Six pairs of hexadecimal digits with colons.
    public let mac: String
    /// IPv4 address.
    public let address: String
    /// Name for the network's DNS; letters, digits, hyphens, dots.
    public let name: String?

    /// `nil` for text that is no MAC, no IPv4 address or no host name.
    public init?(mac: String, address: String, name: String? = nil) {
        let pairs = mac.split(separator: ":", omittingEmptySubsequences: false)
        var parsed = in_addr()
        guard pairs.count == 6, pairs.allSatisfy({ $0.utf8.count == 2 && $0.allSatisfy(\.isHexDigit) }),
            mac.utf8.count == 17, inet_pton(AF_INET, address, &parsed) == 1
        else { return nil }
        if let name {
            let isPlain = name.utf8.allSatisfy {
                switch $0 {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."):
                    true
                default: false
                }
            }
            guard isPlain, (1...253).contains(name.utf8.count) else { return nil }
        }
        self.mac = mac.lowercased()
        self.address = address
        self.name = name
    }

    // Nothing in it can need escaping: see the initializer.
    var xml: String {
        "<host mac='\(mac)'" + (name.map { " name='\($0)'" } ?? "") + " ip='\(address)'/>"
    }
}

/// An address that a network's DHCP server gave out.
public struct DHCPLease: Sendable, Hashable {
    public let mac: String
    public let address: String
    public let hostname: String?
    /// Seconds since 1970.
    public let expiry: Int64
}

extension LibvirtConnection {
    /// The names of all networks, running or not.
    public func networks() async throws(LibvirtError) -> [String] {
        try await call("virConnectListAllNetworks") { (connection) throws(LibvirtError) in
            var found: UnsafeMutablePointer<virNetworkPtr?>?
            let count = virConnectListAllNetworks(connection, &found, 0)
            guard count >= 0 else { throw .last("virConnectListAllNetworks") }
            defer { free(found) }
            return UnsafeBufferPointer(start: found, count: Int(count)).compactMap { pointer in
                guard let pointer else { return nil }
                let network = NetworkHandle(owning: pointer)
                return virNetworkGetName(network.pointer).map { String(cString: $0) }
            }
        }
    }

    /// The network's description.
    public func networkXML(_ name: String) async throws(LibvirtError) -> String {
        try await network(name, "virNetworkGetXMLDesc") { (network) throws(LibvirtError) in
            guard let text = virNetworkGetXMLDesc(network, 0) else { throw .last("virNetworkGetXMLDesc") }
            return takeString(text)
        }
    }

    public func isNetworkActive(_ name: String) async throws(LibvirtError) -> Bool {
        try await network(name, "virNetworkIsActive") { (network) throws(LibvirtError) in
            let answer = virNetworkIsActive(network)
            guard answer >= 0 else { throw .last("virNetworkIsActive") }
            return answer == 1
        }
    }

    /// Defines a persistent network, or replaces its definition.
    public func defineNetwork(xml: String) async throws(LibvirtError) {
        try await call("virNetworkDefineXML") { (connection) throws(LibvirtError) in
            try refuseZero(in: xml, "virNetworkDefineXML")
            guard let network = virNetworkDefineXML(connection, xml) else { throw .last("virNetworkDefineXML") }
            virNetworkFree(network)
        }
    }

    /// Starts a defined network.
    /// - Throws: `.operationInvalid` when it runs.
    public func startNetwork(_ name: String) async throws(LibvirtError) {
        try await network(name, "virNetworkCreate") { (network) throws(LibvirtError) in
            guard virNetworkCreate(network) == 0 else { throw .last("virNetworkCreate") }
        }
    }

    /// Stops a network; guests on it lose it.
    public func destroyNetwork(_ name: String) async throws(LibvirtError) {
        try await network(name, "virNetworkDestroy") { (network) throws(LibvirtError) in
            guard virNetworkDestroy(network) == 0 else { throw .last("virNetworkDestroy") }
        }
    }

    /// The bridge on the host that a running network uses.
    public func bridgeName(ofNetwork name: String) async throws(LibvirtError) -> String {
        try await network(name, "virNetworkGetBridgeName") { (network) throws(LibvirtError) in
            guard let text = virNetworkGetBridgeName(network) else { throw .last("virNetworkGetBridgeName") }
            return takeString(text)
        }
    }

    /// Reserves an address for a MAC, at once and for later starts of the network.
    /// - Throws: `.operationInvalid` when the MAC, the address or the name is reserved already.
    public func addDHCPHost(_ host: DHCPHost, toNetwork name: String) async throws(LibvirtError) {
        try await update(name, VIR_NETWORK_UPDATE_COMMAND_ADD_LAST, host)
    }

    /// Gives a reservation back.
    /// - Throws: `.operationInvalid` when there is none such.
    public func removeDHCPHost(_ host: DHCPHost, fromNetwork name: String) async throws(LibvirtError) {
        try await update(name, VIR_NETWORK_UPDATE_COMMAND_DELETE, host)
    }

    /// The addresses that the network's DHCP server gave out, of one MAC or all.
    public func dhcpLeases(ofNetwork name: String, mac: String? = nil) async throws(LibvirtError) -> [DHCPLease] {
        try await network(name, "virNetworkGetDHCPLeases") { (network) throws(LibvirtError) in
            try LeaseList(of: network, mac: mac).decoded()
        }
    }

    private func update(
        _ name: String, _ command: virNetworkUpdateCommand, _ host: DHCPHost
    ) async throws(LibvirtError) {
        try await network(name, "virNetworkUpdate") { (network) throws(LibvirtError) in
            let isActive = virNetworkIsActive(network)
            guard isActive >= 0 else { throw .last("virNetworkIsActive") }
            var flags = isActive == 1 ? VIR_NETWORK_UPDATE_AFFECT_LIVE.rawValue : 0
            let isPersistent = virNetworkIsPersistent(network)
            guard isPersistent >= 0 else { throw .last("virNetworkIsPersistent") }
            if isPersistent == 1 { flags |= VIR_NETWORK_UPDATE_AFFECT_CONFIG.rawValue }
            let section = VIR_NETWORK_SECTION_IP_DHCP_HOST.rawValue
            guard virNetworkUpdate(network, command.rawValue, section, -1, host.xml, flags) == 0 else {
                throw .last("virNetworkUpdate")
            }
        }
    }

    private func network<T: Sendable>(
        _ name: String, _ call: String, _ body: @escaping @Sendable (virNetworkPtr) throws(LibvirtError) -> T
    ) async throws(LibvirtError) -> T {
        try await self.call(call) { (connection) throws(LibvirtError) in
            let network = try NetworkHandle(named: name, on: connection)
            return try body(network.pointer)
        }
    }
}

/// Owns what `virNetworkGetDHCPLeases` returned.
private struct LeaseList: ~Copyable {
    private let leases: UnsafeMutablePointer<virNetworkDHCPLeasePtr?>?
    private let count: Int

    init(of network: virNetworkPtr, mac: String?) throws(LibvirtError) {
        var found: UnsafeMutablePointer<virNetworkDHCPLeasePtr?>?
        let count = virNetworkGetDHCPLeases(network, mac, &found, 0)
        guard count >= 0 else { throw .last("virNetworkGetDHCPLeases") }
        leases = found
        self.count = Int(count)
    }

    deinit {
        for lease in UnsafeBufferPointer(start: leases, count: count) {
            if let lease { virNetworkDHCPLeaseFree(lease) }
        }
        free(leases)
    }

    func decoded() throws(LibvirtError) -> [DHCPLease] {
        UnsafeBufferPointer(start: leases, count: count).compactMap { lease in
            guard let lease = lease?.pointee, let mac = lease.mac, let address = lease.ipaddr else { return nil }
            return DHCPLease(
                mac: String(cString: mac), address: String(cString: address),
                hostname: lease.hostname.map { String(cString: $0) }, expiry: lease.expirytime)
        }
    }
}
