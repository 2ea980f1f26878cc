internal import GuestHardware
internal import Model
internal import XML

extension DomainDocument {
    func nic(_ interface: NetworkInterface) -> XMLNode {
        let isNetwork: Bool
        let source: XMLNode
        switch settings.network.binding(of: interface) {
        case .libvirt(let name): (isNetwork, source) = (true, XMLNode("source", ["network": name]))
        case .bridge(let name): (isNetwork, source) = (false, XMLNode("source", ["bridge": name]))
        }
        return XMLNode("interface", ["type": isNetwork ? "network" : "bridge"]) {
            XMLNode("mac", ["address": interface.macAddress])
            source
            XMLNode("model", ["type": (hardware.nics.model ?? .virtio).rawValue])
            nicDriver
            bandwidth
        }
    }

    /// Only virtio has something to choose here.
    private var nicDriver: XMLNode? {
        let (nics, common) = (hardware.nics, settings.nics)
        guard (nics.model ?? .virtio) == .virtio else { return nil }
        let queues = nics.isMultiqueue ? min(instance.flavor.vcpus, common.queueLimit) : 1
        let driver = XMLNode(
            "driver",
            [
                "name": queues > 1 ? (settings.isKVM ? "vhost" : "qemu") : nil,
                "queues": queues > 1 ? String(queues) : nil,
                "rx_queue_size": common.receiveQueueSize.map(String.init),
                "tx_queue_size": common.transmitQueueSize.map(String.init), "packed": nics.isRingPacked ? "on" : nil,
            ])
        return driver.attributes.isEmpty ? nil : driver
    }

    private var bandwidth: XMLNode? {
        let nics = hardware.nics
        guard nics.inbound != nil || nics.outbound != nil else { return nil }
        return XMLNode("bandwidth") {
            for (name, limit) in [("inbound", nics.inbound), ("outbound", nics.outbound)] {
                if let limit {
                    XMLNode(
                        name,
                        [
                            "average": String(limit.average), "peak": limit.peak.map(String.init),
                            "burst": limit.burst.map(String.init),
                        ])
                }
            }
        }
    }
}
