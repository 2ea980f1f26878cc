internal import CLibvirt
internal import Glibc

/// Owns one reference to a device of the host; dropping it calls `virNodeDeviceFree`.
private struct NodeDeviceHandle: ~Copyable {
    let pointer: virNodeDevicePtr

    /// Takes over a reference the caller owns (`+1`).
    init(owning pointer: virNodeDevicePtr) { self.pointer = pointer }

    deinit { virNodeDeviceFree(pointer) }
}

extension LibvirtConnection {
    /// The descriptions of the host's PCI devices. One that vanishes while they are read is left out.
    public func pciDevices() async throws(LibvirtError) -> [String] {
        try await call("virConnectListAllNodeDevices") { (connection) throws(LibvirtError) in
            var found: UnsafeMutablePointer<virNodeDevicePtr?>?
            let flags = VIR_CONNECT_LIST_NODE_DEVICES_CAP_PCI_DEV.rawValue
            let count = virConnectListAllNodeDevices(connection, &found, flags)
            guard count >= 0 else { throw .last("virConnectListAllNodeDevices") }
            defer { free(found) }
            return UnsafeBufferPointer(start: found, count: Int(count)).compactMap { pointer in
                guard let pointer else { return nil }
                let device = NodeDeviceHandle(owning: pointer)
                return virNodeDeviceGetXMLDesc(device.pointer, 0).map(takeString)
            }
        }
    }
}
