import Foundation
import Libvirt
import Testing
import XML

@testable import LibvirtDriver

/// Documents of `Capabilities`, whose README says where they come from.
@Suite("What guests can have on a host, by its domain capabilities")
struct HostTraitTests {
    private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().path + "/Capabilities"

    private func document(_ machine: String, _ change: (String) -> String = { $0 }) throws -> XMLNode {
        try XMLNode(parsing: change(try contents(Self.folder + "/\(machine)-domain.xml")))
    }

    private func abilities(_ machine: String, _ change: (String) -> String = { $0 }) throws -> HostAbilities {
        HostAbilities(
            try document(machine, change), libvirt: PackedVersion(9, 0, 0), hypervisor: PackedVersion(7, 2, 0))
    }

    private func traits(
        _ abilities: HostAbilities, secureMachine: HostAbilities? = nil, isTPMEnabled: Bool = true,
        features: Set<String> = []
    ) -> Set<String> {
        Set(
            HostTraits.names(
                architecture: "x86_64", threadsPerCore: 1, features: features, abilities: abilities,
                secureMachine: secureMachine, isTPMEnabled: isTPMEnabled))
    }

    private func traits(_ names: Set<String>, of family: String) -> [String] {
        names.filter { $0.hasPrefix(family) }.map { String($0.dropFirst(family.count)) }.sorted()
    }

    @Test("Firmware: what a q35 machine boots securely with, a pc machine does not have")
    func firmware() throws {
        let (q35, pc) = (try abilities("q35"), try abilities("pc"))
        #expect(q35.hasUEFI && q35.hasSecureBoot && pc.hasUEFI && !pc.hasSecureBoot)
        #expect(traits(q35).contains("COMPUTE_SECURITY_UEFI_SECURE_BOOT"))
        #expect(!traits(pc).contains("COMPUTE_SECURITY_UEFI_SECURE_BOOT"))
        // Guests that want it get a q35 machine, whatever the others get.
        #expect(traits(pc, secureMachine: q35).contains("COMPUTE_SECURITY_UEFI_SECURE_BOOT"))
        #expect(!traits(pc, secureMachine: pc).contains("COMPUTE_SECURITY_UEFI_SECURE_BOOT"))
    }

    @Test("Without UEFI firmware that is installed there is no secure boot, whatever the loader could do")
    func noFirmware() throws {
        let found = try abilities("q35") { $0.replacing("<value>efi</value>", with: "<value>bios</value>") }
        #expect(!found.hasUEFI && !found.hasSecureBoot)
        #expect(!traits(found).contains("COMPUTE_SECURITY_UEFI_SECURE_BOOT"))
    }

    @Test("TPMs: each version and model where swtpm emulates them and the configuration gives them, none otherwise")
    func tpm() throws {
        let found = try abilities("q35")
        #expect(traits(traits(found), of: "COMPUTE_SECURITY_TPM_") == ["1_2", "2_0", "CRB", "TIS"])
        #expect(traits(traits(found, isTPMEnabled: false), of: "COMPUTE_SECURITY_TPM_").isEmpty)
        let bare = try abilities("q35") { $0.replacing("<value>emulator</value>", with: "") }
        #expect(traits(traits(bare), of: "COMPUTE_SECURITY_TPM_").isEmpty, "a host's own chip is no guest's")
        let old = try abilities("q35") {
            $0.replacing("<value>2.0</value>", with: "").replacing("<value>tpm-crb</value>", with: "")
        }
        #expect(traits(traits(old), of: "COMPUTE_SECURITY_TPM_") == ["1_2", "TIS"])
        let none = try abilities("q35") { $0.replacing("<tpm supported='yes'>", with: "<tpm supported='no'>") }
        #expect(traits(traits(none), of: "COMPUTE_SECURITY_TPM_").isEmpty)
    }

    @Test("Video models and disk buses are those that the hypervisor tells and traits have names for")
    func video() throws {
        let (q35, pc) = (traits(try abilities("q35")), traits(try abilities("pc")))
        // ramfb has no trait.
        let models = ["BOCHS", "CIRRUS", "NONE", "QXL", "VGA", "VIRTIO", "VMVGA"]
        #expect(traits(q35, of: "COMPUTE_GRAPHICS_MODEL_") == models)
        #expect(traits(pc, of: "COMPUTE_GRAPHICS_MODEL_") == models)
        #expect(traits(q35, of: "COMPUTE_STORAGE_BUS_") == ["FDC", "SATA", "SCSI", "USB", "VIRTIO"])
        #expect(traits(pc, of: "COMPUTE_STORAGE_BUS_") == ["FDC", "IDE", "SATA", "SCSI", "USB", "VIRTIO"])
        let headless = try abilities("q35") { $0.replacing("<video supported='yes'>", with: "<video supported='no'>") }
        #expect(traits(traits(headless), of: "COMPUTE_GRAPHICS_MODEL_").isEmpty)
    }

    @Test("Of the processor guests get what the host's model has, but for what is switched off")
    func processor() throws {
        let model = try #require(try HostTraits.hostModel(try document("q35")))
        let cpu = try XMLNode(parsing: model)
        #expect(cpu.first("model")?.text == "EPYC" && cpu.first("vendor")?.text == "AMD")
        let features = HostTraits.features(cpu)
        #expect(features.isSuperset(of: ["mpx", "3dnow", "clwb"]) && features.isDisjoint(with: ["sha-ni", "topoext"]))
        let found = traits(traits(try abilities("q35"), features: features), of: "HW_CPU_X86_")
        #expect(found == ["3DNOW", "MPX"])
    }
}
