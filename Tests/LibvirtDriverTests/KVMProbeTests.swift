import Testing

@testable import LibvirtDriver

@Suite("KVM probe")
struct KVMProbeTests {
    @Test("The probe's guest reaches 64-bit mode and says so, under emulation")
    func emulated() async {
        #expect(await KVMProbe.boot(accelerator: "tcg", timeout: .seconds(30)) == .works)
    }

    @Test("An accelerator that is not there is unusable, with QEMU's words")
    func unknown() async {
        guard case .unusable(let reason) = await KVMProbe.boot(accelerator: "none", timeout: .seconds(30)) else {
            Issue.record("an accelerator that does not exist worked")
            return
        }
        #expect(reason.contains("none"))
    }
}
