internal import Compute
internal import Model
internal import XML

/// What a domain's `<metadata>` says: to people and tools under Nova's namespace, and under ours that the domain is
/// Apus's to change.
enum DomainMetadata {
    static let novaNamespace = "http://openstack.org/xmlns/libvirt/nova/1.1"
    static let namespace = "https://apus.dev/xmlns/libvirt/1.0"

    static func make(_ guest: GuestSpecification, version: String) -> XMLNode {
        let instance = guest.instance
        return XMLNode("metadata") {
            XMLNode("apus:instance", ["xmlns:apus": namespace, "version": "1"])
            XMLNode("nova:instance", ["xmlns:nova": novaNamespace]) {
                XMLNode("nova:package", ["version": version])
                XMLNode("nova:name", text: instance.name)
                XMLNode("nova:creationTime", text: instance.createdAt.spaced)
                flavor(instance.flavor)
                XMLNode("nova:owner") {
                    XMLNode("nova:user", ["uuid": instance.userID.rawValue], text: instance.userID.rawValue)
                    XMLNode("nova:project", ["uuid": instance.projectID.rawValue], text: instance.projectID.rawValue)
                }
                XMLNode("nova:root", ["type": "image", "uuid": guest.image.id.rawValue])
                XMLNode("nova:ports") {
                    for interface in guest.interfaces {
                        XMLNode("nova:port", ["mac": interface.macAddress]) {
                            if let address = interface.ipv4Address {
                                XMLNode("nova:ip", ["type": "fixed", "address": address, "ipVersion": "4"])
                            }
                        }
                    }
                }
            }
        }
    }

    private static func flavor(_ flavor: Flavor) -> XMLNode {
        XMLNode("nova:flavor", ["name": flavor.name, "id": flavor.id.rawValue]) {
            XMLNode("nova:memory", text: String(flavor.memoryMiB))
            XMLNode("nova:disk", text: String(flavor.rootGiB))
            XMLNode("nova:swap", text: String(flavor.swapMiB))
            XMLNode("nova:ephemeral", text: String(flavor.ephemeralGiB))
            XMLNode("nova:vcpus", text: String(flavor.vcpus))
            XMLNode("nova:extraSpecs") {
                for (key, value) in flavor.extraSpecs.sorted(by: { $0.key < $1.key }) {
                    XMLNode("nova:extraSpec", ["name": key], text: value)
                }
            }
        }
    }

    /// Whether a domain's XML carries our mark.
    static func isOurs(_ domain: XMLNode) -> Bool {
        domain.first("metadata")?.children.contains { child in
            child.name.hasSuffix(":instance")
                && child.attributes.contains { $0.0.hasPrefix("xmlns:") && $0.1 == namespace }
        } ?? false
    }
}
