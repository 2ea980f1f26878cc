import GuestHardware
import Model
import Testing

@Suite("The other properties of Nova's images")
struct ImagePropertyTests {
    @Test(
        "A kernel of the image's own is refused by name, unless there is none",
        arguments: ["kernel_id", "ramdisk_id", "os_command_line"])
    func directKernel(name: String) throws {
        let reason = "booting a kernel from an image of its own is not available yet"
        let error = #expect(throws: HardwareError.self) { _ = try hardware([:], [name: "k-1"]) }
        #expect(error?.description == "\(name) (image property) = 'k-1': \(reason)")
        _ = try hardware([:], [name: ""])
        // An image may say so: it is when a server is made of it that it counts.
        try GuestHardware.check(imageProperty: name, value: "k-1")
    }

    @Test("An architecture has several names; which one it is decides the host")
    func architecture() throws {
        for (name, value, expected) in [
            ("hw_architecture", "x86_64", .x86_64), ("architecture", "amd64", .x86_64),
            ("hw_architecture", "arm64", .aarch64), ("architecture", "i386", .i686),
        ] as [(String, String, Architecture)] {
            #expect(try hardware([:], [name: value]).machine.architecture == expected)
        }
        #expect(try hardware([:], [:]).machine.architecture == nil)
        let both = ["hw_architecture": "aarch64", "architecture": "x86_64"]
        #expect(try hardware([:], both).machine.architecture == .aarch64)
        #expect(throws: HardwareError.self) { _ = try hardware([:], ["architecture": "vax"]) }
    }

    @Test(
        "What Nova's libvirt driver makes nothing of is known, and steers nothing",
        arguments: [
            ("hw_floppy_bus", "fdc"), ("hw_ipxe_boot", "true"), ("hw_auto_disk_config", "false"),
            ("auto_disk_config", "disabled"), ("hw_disk_type", "preallocated"),
        ])
    func withoutEffect(name: String, value: String) throws {
        #expect(try hardware([:], [name: value]) == hardware([:], [:]))
        try GuestHardware.check(imageProperty: name, value: value)
    }

    @Test("Of those, too, a value that is none is refused")
    func values() {
        for (name, value) in [("hw_floppy_bus", "tape"), ("hw_ipxe_boot", "maybe"), ("hw_disk_type", "")] {
            #expect(throws: HardwareError.self) { _ = try hardware([:], [name: value]) }
        }
    }
}
