internal import Compute
internal import Libvirt
public import Model
internal import Telemetry

extension LibvirtDriver {
    public func guestBridges() async throws -> [String] {
        var bridges: Set<String> = [try await bridge(of: binding)]
        // Guests stay where they were plugged when `[compute] network` has become another one.
        try await learnDomains()
        for other in directory.ownBindings where other != binding {
            do {
                bridges.insert(try await bridge(of: other))
            } catch {
                log.debug("a network of guests has no bridge", ["network": other.name, "error": LoggedError(error)])
            }
        }
        return bridges.sorted()
    }

    public func guest(onBridge bridge: String, macAddress: String) async throws -> InstanceID? {
        // Only a domain of ours that is defined with this MAC on this bridge counts.
        if plug(of: macAddress) == nil { try await learnDomains() }
        guard let (id, plug) = plug(of: macAddress), try await self.bridge(of: plug) == bridge else { return nil }
        return id
    }

    private func learnDomains() async throws {
        for domain in try await allDomains() { _ = try await entry(of: domain) }
    }

    private func plug(of mac: String) -> (InstanceID, NetworkBinding)? {
        guard let id = directory.users[mac], let entry = directory[id], entry.isOurs,
            case .some(.some(let plug)) = entry.plugs[mac]
        else { return nil }
        return (id, plug)
    }

    private func bridge(of binding: NetworkBinding) async throws -> String {
        switch binding {
        case .bridge(let name): return name
        case .libvirt(let network):
            let connection = try await connection(.work)
            return try await translated("looking at network \(network)") {
                try await connection.bridgeName(ofNetwork: network)
            }
        }
    }
}
