internal import CLibvirt
internal import Glibc

/// Owns one reference to a device of the host; dropping it calls `virNodeDeviceFree`.
private struct NodeDeviceHandle: ~Copyable {
    let pointer: virNodeDevicePtr

    /// Takes over a reference the caller owns (`+1`).
    init(owning pointer: virNodeDevicePtr) { self.pointer = pointer }

    deinit { virNodeDeviceFree(pointer) }
}

/// A sort of devices of the host.
public enum NodeDeviceKind: Sendable, Hashable {
    case pci
    /// Devices that mediated devices can be made of.
    case mediatedParent
    /// Mediated devices that exist; not those that are only defined.
    case mediated

    fileprivate var flags: UInt32 {
        switch self {
        case .pci: VIR_CONNECT_LIST_NODE_DEVICES_CAP_PCI_DEV.rawValue
        case .mediatedParent: VIR_CONNECT_LIST_NODE_DEVICES_CAP_MDEV_TYPES.rawValue
        case .mediated: VIR_CONNECT_LIST_NODE_DEVICES_CAP_MDEV.rawValue
        }
    }
}

extension LibvirtConnection {
    /// The descriptions of the host's devices of a sort. One that vanishes while they are read is left out.
    public func nodeDevices(_ kind: NodeDeviceKind) async throws(LibvirtError) -> [String] {
        try await call("virConnectListAllNodeDevices") { (connection) throws(LibvirtError) in
            var found: UnsafeMutablePointer<virNodeDevicePtr?>?
            let count = virConnectListAllNodeDevices(connection, &found, kind.flags)
            guard count >= 0 else { throw .last("virConnectListAllNodeDevices") }
            defer { free(found) }
            return UnsafeBufferPointer(start: found, count: Int(count)).compactMap { pointer in
                guard let pointer else { return nil }
                let device = NodeDeviceHandle(owning: pointer)
                // Asked of each, not by a flag of the list, which drivers without definitions refuse; these answer -1.
                if kind == .mediated, virNodeDeviceIsActive(device.pointer) == 0 { return nil }
                return virNodeDeviceGetXMLDesc(device.pointer, 0).map(takeString)
            }
        }
    }

    /// Makes the device that `xml` describes, and gives its name. It is gone after the host's next boot. Seconds: libvirt
    /// waits until the kernel has it.
    public func createNodeDevice(xml: String) async throws(LibvirtError) -> String {
        try await call("virNodeDeviceCreateXML") { (connection) throws(LibvirtError) in
            try refuseZero(in: xml, "virNodeDeviceCreateXML")
            guard let made = virNodeDeviceCreateXML(connection, xml, 0) else { throw .last("virNodeDeviceCreateXML") }
            let device = NodeDeviceHandle(owning: made)
            return virNodeDeviceGetName(device.pointer).map { String(cString: $0) } ?? ""
        }
    }

    /// Removes a device that can be made.
    /// - Throws: `.noNodeDevice` when there is none of that name.
    public func destroyNodeDevice(named name: String) async throws(LibvirtError) {
        try await call("virNodeDeviceDestroy") { (connection) throws(LibvirtError) in
            try refuseZero(in: name, "virNodeDeviceLookupByName")
            guard let found = virNodeDeviceLookupByName(connection, name) else {
                throw .last("virNodeDeviceLookupByName")
            }
            let device = NodeDeviceHandle(owning: found)
            guard virNodeDeviceDestroy(device.pointer) == 0 else { throw .last("virNodeDeviceDestroy") }
        }
    }
}
