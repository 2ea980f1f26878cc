import Testing

@testable import Libvirt

@Suite("Devices of the host")
struct NodeDeviceTests {
    @Test("A host without mediated devices lists none, and removes none")
    func none() async throws {
        let hypervisor = try TestHypervisor()
        let connection = try await hypervisor.connect()
        #expect(try await connection.nodeDevices(.mediated) == [])
        #expect(try await connection.nodeDevices(.mediatedParent) == [])
        await error(.noNodeDevice) { try await connection.destroyNodeDevice(named: "mdev_none") }
        await #expect(throws: LibvirtError.self) { try await connection.createNodeDevice(xml: "<device/>") }
        #expect(await connection.close() == .closed)
    }
}
