internal import Libvirt
internal import Model
internal import XML

/// What guests can have on a host, by the names of the `os-traits` list.
enum HostTraits {
    /// libvirt's names of processor features, and the traits that stand for them. A feature that is not here has no trait
    /// of its own name; most have, and are derived.
    private static let named: [String: [String]] = [
        "aes": ["AESNI"], "bmi1": ["BMI"], "fma": ["FMA3"], "pclmuldq": ["CLMUL"], "pclmulqdq": ["CLMUL"],
        "sha-ni": ["SHA"], "pni": ["SSE3"], "sse4.1": ["SSE41"], "sse4.2": ["SSE42"], "avx512f": ["AVX512F"],
        "vmx": ["VMX", "INTEL_VMX"], "svm": ["SVM", "AMD_SVM"], "ibpb": ["AMD_IBPB"], "amd-no-ssb": ["AMD_NO_SSB"],
        "amd-ssbd": ["AMD_SSBD"], "virt-ssbd": ["AMD_VIRT_SSBD"], "stibp": ["STIBP"], "spec-ctrl": ["SPEC_CTRL"],
        "ssbd": ["SSBD"],
    ]
    /// Features whose trait is called as they are.
    private static let plain: Set<String> = [
        "3dnow", "abm", "asf", "avx", "avx2", "avx512bw", "avx512cd", "avx512dq", "avx512er", "avx512pf", "avx512vl",
        "avx512vnni", "avx512vbmi", "avx512ifma", "avx512vbmi2", "avx512bitalg", "avx512vaes", "avx512gfni",
        "avx512vpopcntdq", "avx512vpclmulqdq", "bmi2", "f16c", "fma4", "mmx", "mpx", "rtm", "hle", "sgx", "sse", "sse2",
        "sse4a", "ssse3", "tbm", "tsx", "xop",
    ]
    private static let videoModels = [
        "bochs", "cirrus", "gop", "none", "qxl", "vga", "virtio", "vmvga", "xen",
    ]
    private static let diskBuses = ["fdc", "ide", "lxc", "sata", "scsi", "usb", "uml", "virtio", "xen"]

    /// - Parameters:
    ///   - features: of the processor that guests get, by libvirt's names.
    ///   - abilities: of guests on the machine type that they get unless they ask for another.
    ///   - secureMachine: of guests on the machine type that secure boot takes, where that is another one.
    ///   - isTPMEnabled: whether the configuration gives guests a TPM.
    static func names(
        architecture: String, threadsPerCore: Int, features: Set<String>, abilities: HostAbilities?,
        secureMachine: HostAbilities? = nil, isTPMEnabled: Bool
    ) -> [String] {
        var traits: Set<String> = [
            "COMPUTE_NET_ATTACH_INTERFACE", "COMPUTE_DEVICE_TAGGING", "COMPUTE_IMAGE_TYPE_RAW",
            "COMPUTE_IMAGE_TYPE_QCOW2", "COMPUTE_NET_VIF_MODEL_VIRTIO", "COMPUTE_NET_VIF_MODEL_E1000",
            "COMPUTE_NET_VIF_MODEL_E1000E", "COMPUTE_NET_VIF_MODEL_RTL8139", "COMPUTE_SOCKET_PCI_NUMA_AFFINITY",
        ]
        if threadsPerCore > 1 { traits.insert("HW_CPU_HYPERTHREADING") }
        if !architecture.isEmpty {
            traits.formUnion(["HW_ARCH_\(architecture.uppercased())", "COMPUTE_ARCH_\(architecture.uppercased())"])
        }
        for feature in features.map({ $0.lowercased() }) {
            if let names = named[feature] {
                traits.formUnion(names.map { "HW_CPU_X86_" + $0 })
            } else if plain.contains(feature) {
                traits.insert("HW_CPU_X86_" + feature.uppercased())
            }
        }
        guard let abilities else { return traits.sorted() }
        if abilities.hasSecureBoot || secureMachine?.hasSecureBoot == true {
            traits.insert("COMPUTE_SECURITY_UEFI_SECURE_BOOT")
        }
        let tpmVersions = isTPMEnabled ? abilities.tpmVersions : []
        for version in tpmVersions {
            traits.insert("COMPUTE_SECURITY_TPM_" + version.map { $0 == "." ? "_" : String($0) }.joined())
        }
        for model in abilities.tpmModels.intersection(["tpm-tis", "tpm-crb"]) where !tpmVersions.isEmpty {
            traits.insert("COMPUTE_SECURITY_" + model.uppercased().map { $0 == "-" ? "_" : String($0) }.joined())
        }
        for model in videoModels where abilities.videoModels.contains(model) {
            traits.insert("COMPUTE_GRAPHICS_MODEL_" + model.uppercased())
        }
        for bus in diskBuses where abilities.diskBuses.contains(bus) {
            traits.insert("COMPUTE_STORAGE_BUS_" + bus.uppercased())
        }
        return traits.sorted()
    }

    /// The host's own CPU as domain capabilities describe it for guests, as a `<cpu>` document; `nil` where there is none.
    static func hostModel(_ domainCapabilities: XMLNode) throws(XMLError) -> String? {
        let mode = domainCapabilities.all("cpu/mode").first { $0["name"] == "host-model" && $0["supported"] == "yes" }
        guard let mode, let model = mode.first("model")?.text, !model.isEmpty else { return nil }
        let cpu = XMLNode("cpu", ["mode": "custom", "match": "exact"]) {
            XMLNode("model", ["fallback": "forbid"], text: model)
            if let vendor = mode.first("vendor")?.text { XMLNode("vendor", text: vendor) }
            for feature in mode.all("feature") {
                if let name = feature["name"] {
                    XMLNode("feature", ["policy": feature["policy"] ?? "require", "name": name])
                }
            }
        }
        return try cpu.serialized()
    }

    /// The features of an expanded `<cpu>` document that guests get.
    static func features(_ cpu: XMLNode) -> Set<String> {
        Set(
            cpu.all("feature").filter { $0["policy"] != "disable" && $0["policy"] != "forbid" }
                .compactMap { $0["name"] })
    }
}
