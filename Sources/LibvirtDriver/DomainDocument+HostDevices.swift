internal import Compute
internal import Model
internal import XML

/// The host's devices that are the guest's own.
extension DomainDocument {
    @XMLBuilder var hostDevices: [XMLNode] {
        for device in guest.devices ?? [] {
            // Managed: libvirt takes it from its driver, and gives it back.
            XMLNode("hostdev", ["mode": "subsystem", "type": "pci", "managed": "yes"]) {
                XMLNode("source") { XMLNode("address", Self.parts(of: device.address)) }
            }
        }
        for device in guest.mediatedDevices ?? [] {
            // It is the host's before it is the guest's, and no driver of the host has it: nothing to manage.
            XMLNode("hostdev", ["mode": "subsystem", "type": "mdev", "model": "vfio-pci", "managed": "no"]) {
                XMLNode("source") { XMLNode("address", ["uuid": device.uuid]) }
            }
        }
    }

    /// `0000:81:00.1` as libvirt writes it.
    private static func parts(of address: String) -> KeyValuePairs<String, String?> {
        let parts = address.split { $0 == ":" || $0 == "." }.map { "0x" + $0 }
        guard parts.count == 4 else { return [:] }
        return ["domain": parts[0], "bus": parts[1], "slot": parts[2], "function": parts[3]]
    }
}
