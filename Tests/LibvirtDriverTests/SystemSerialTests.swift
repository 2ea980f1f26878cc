import Model
import Testing
import XML

@testable import LibvirtDriver

@Suite("The serial number that a guest sees")
struct SystemSerialTests {
    private func entry(_ serial: SystemSerial) throws -> String? {
        var settings = Sample.settings()
        settings.serial = serial
        let document = try Sample.document(Sample.guest(), settings)
        return document.all("sysinfo/system/entry").first { $0["name"] == "serial" }?.text
    }

    @Test("is the instance's, the host's, or none at all")
    func sources() throws {
        #expect(try entry(.instance) == Sample.id.rawValue)
        #expect(try entry(.host("s-1")) == "s-1")
        #expect(try entry(.none) == nil)
    }

    @Test("is a machine-id with a uuid's dashes, and nothing where there is no such id")
    func machineID() {
        let id = "0123456789abcdef0123456789ABCDEF"
        #expect(SystemSerial.uuid(machineID: id + "\n") == "01234567-89ab-cdef-0123-456789abcdef")
        for text in ["", "uninitialized\n", "0123", id + "0"] {
            #expect(SystemSerial.uuid(machineID: text) == nil, "\(text)")
        }
    }
}
