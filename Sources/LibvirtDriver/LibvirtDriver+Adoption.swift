internal import Compute
internal import Libvirt
public import Model
internal import Synchronization
internal import Telemetry

extension LibvirtDriver {
    public func adoptNetwork(_ id: InstanceID, _ interfaces: [NetworkInterface]) async throws -> [NetworkInterface] {
        guard !interfaces.isEmpty else { return [] }
        lastArrival.withLock { $0 = .now }
        let users = try await usersOfMACs()
        var adopted: [NetworkInterface] = []
        for (index, interface) in interfaces.enumerated() {
            let mac = interface.macAddress.lowercased()
            guard users[mac, default: id] == id else {
                throw Failure(.conflict, "the MAC \(mac) is another guest's on this host")
            }
            var own: NetworkInterface
            switch try await binding(here: interface) {
            case .bridge(let bridge): own = NetworkInterface(network: bridge, macAddress: mac)
            case .libvirt(let network):
                // Only the configured network is maintained without anybody's asking.
                own = try await book(of: network).adopt(
                    id, key: index == 0 ? nil : mac, mac: mac,
                    address: interface.ipv4Address.flatMap { IPv4Address($0) }, isLater: .libvirt(network) == binding)
            }
            own.tag = interface.tag
            adopted.append(own)
        }
        requestUpkeep()
        return adopted
    }

    public func leaveNetwork(_ id: InstanceID, _ interfaces: [NetworkInterface]) async throws {
        for network in networks(of: interfaces) {
            try await book(of: network).forget(id, isLater: .libvirt(network) == binding)
        }
        requestUpkeep()
    }

    /// Where a NIC from another host is plugged in here: into its own network if this host has it, else into the
    /// configured one.
    private func binding(here interface: NetworkInterface) async throws -> NetworkBinding {
        let former = binding.binding(of: interface)
        guard former != binding else { return binding }
        switch former {
        case .bridge(let name):
            guard NetworkBinding("bridge:" + name) == former else { return binding }
            let isHere = await files.run { Files.exists("/sys/class/net/\(name)/bridge") }
            return isHere ? former : binding
        case .libvirt(let name):
            do {
                return try await connection(.work).isNetworkActive(name) ? former : binding
            } catch let error as LibvirtError {
                guard error.code == .noNetwork else { throw Failure(error, "libvirt network '\(name)'") }
                return binding
            }
        }
    }
}
