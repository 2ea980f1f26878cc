internal import Compute
internal import Libvirt
public import Model

extension LibvirtDriver {
    public func guestBridges() async throws -> [String] {
        switch binding {
        case .bridge(let name): return [name]
        case .libvirt(let network):
            let connection = try await connection(.work)
            return [
                try await translated("looking at network \(network)") {
                    try await connection.bridgeName(ofNetwork: network)
                }
            ]
        }
    }

    public func guest(onBridge bridge: String, macAddress: String) async throws -> InstanceID? {
        guard try await guestBridges().contains(bridge) else { return nil }
        // Only a domain of ours that is defined with this MAC counts.
        if let known = ours(macAddress) { return known }
        for domain in try await allDomains() { _ = try await entry(of: domain) }
        return ours(macAddress)
    }

    private func ours(_ mac: String) -> InstanceID? {
        directory.users[mac].flatMap { directory[$0]?.isOurs == true ? $0 : nil }
    }
}
