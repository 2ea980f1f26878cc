internal import Libvirt
internal import XML

/// What libvirt says that domains on a machine type may have.
struct HostAbilities: Sendable, Hashable {
    var hasUEFI = false
    var hasSecureBoot = false
    var tpmModels: Set<String> = []
    var tpmVersions: Set<String> = []
    var videoModels: Set<String> = []
    var diskBuses: Set<String> = []
    /// Models of a named CPU that the host can run.
    var cpuModels: Set<String> = []
    /// Intel's network adapter with virtual functions.
    var hasIGB = false
    /// The hypervisor's program, of which libvirt tells but a part; `nil` where there is none.
    var emulator: String?
    /// QEMU's names of the devices that it was built with; `nil` where they are not known, and nothing follows.
    var devices: Set<String>?

    init(
        _ document: XMLNode, libvirt: PackedVersion, hypervisor: PackedVersion, devices: Set<String>? = nil
    ) {
        self.devices = devices
        emulator = document.first("path")?.text
        func values(_ path: String, _ name: String) -> Set<String> {
            let place = document.first(path)
            guard place?["supported"] != "no" else { return [] }
            return Set(place?.all("enum").first { $0["name"] == name }?.all("value").map(\.text) ?? [])
        }
        hasUEFI = values("os", "firmware").contains("efi")
        hasSecureBoot = hasUEFI && values("os/loader", "secure").contains("yes")
        tpmModels = values("devices/tpm", "model")
        if values("devices/tpm", "backendModel").contains("emulator") {
            tpmVersions = values("devices/tpm", "backendVersion")
        }
        videoModels = values("devices/video", "modelType")
        diskBuses = values("devices/disk", "bus")
        let custom = document.all("cpu/mode").first { $0["name"] == "custom" }
        cpuModels = Set(custom?.all("model").filter { $0["usable"] != "no" }.map(\.text) ?? [])
        hasIGB = libvirt >= PackedVersion(9, 3, 0) && hypervisor >= PackedVersion(8, 0, 0)
    }

    /// Why a guest cannot have a device, if it cannot: QEMU was built without it.
    func flaw(ofDevice name: String) -> String? {
        guard let devices, !devices.contains(name) else { return nil }
        return "the host's QEMU has no device \(name)"
    }

    /// For a sentence: `cirrus, vga`, or `none`.
    static func list(_ names: Set<String>) -> String {
        names.isEmpty ? "none" : names.sorted().joined(separator: ", ")
    }
}
