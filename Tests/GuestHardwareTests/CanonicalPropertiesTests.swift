import GuestHardware
import Testing

@Suite("The one form of an image's property")
struct CanonicalPropertiesTests {
    @Test(
        "By its type",
        arguments: [
            ("hw_qemu_guest_agent", "y", "True"), ("hw_boot_menu", "OFF", "False"),
            ("hw_boot_menu", "perhaps", "perhaps"),
            ("hw_cpu_cores", "004", "4"), ("hw_cpu_cores", "four", "four"), ("hw_architecture", "AMD64", "x86_64"),
            ("architecture", "i586", "i686"), ("hw_architecture", "VAX", "vax"), ("img_hv_type", "XAPI", "xen"),
            ("hypervisor_type", "QEMU", "qemu"), ("hw_vm_mode", "HV", "hvm"), ("vm_mode", "pv", "xen"),
            ("hw_disk_bus", "virtio", "virtio"), ("os_distro", "Yes", "Yes"), ("", "", ""),
        ])
    func value(name: String, given: String, expected: String) {
        #expect(CanonicalProperties.value(given, of: name) == expected)
        #expect(CanonicalProperties.value(expected, of: name) == expected)
    }

    @Test("A former name is that of today, which has the say where there are both")
    func names() {
        let former = CanonicalProperties(["architecture": "amd64", "vm_mode": "hv"])
        #expect(former["hw_architecture"] == "x86_64" && former["architecture"] == "x86_64")
        #expect(former["hw_vm_mode"] == "hvm" && former["img_hv_type"] == nil)
        let both = CanonicalProperties(["architecture": "amd64", "hw_architecture": "arm64"])
        #expect(both["architecture"] == "aarch64")
    }
}
