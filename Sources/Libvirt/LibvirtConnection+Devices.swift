internal import CLibvirt

/// Which of a domain's descriptions a change is for.
public struct ChangeScope: OptionSet, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// The guest that runs.
    public static let live = ChangeScope(rawValue: 1 << 0)
    /// The definition that the next start uses.
    public static let definition = ChangeScope(rawValue: 1 << 1)
}

extension LibvirtConnection {
    /// Adds the device that `xml` describes.
    /// - Throws: `.operationFailed` or `.xmlInvalid` when it is there already or has no place.
    public func attachDevice(
        _ reference: DomainReference, xml: String, _ scope: ChangeScope
    ) async throws(LibvirtError) {
        try await act(on: reference, "virDomainAttachDeviceFlags") { (domain) throws(LibvirtError) in
            try refuseZero(in: xml, "virDomainAttachDeviceFlags")
            return virDomainAttachDeviceFlags(domain, xml, scope.rawValue)
        }
    }

    /// Removes the device that `xml` describes. From a guest that runs it is gone when the event says so, not when this
    /// returns.
    /// - Throws: `.deviceMissing` when it has no such device.
    public func detachDevice(
        _ reference: DomainReference, xml: String, _ scope: ChangeScope
    ) async throws(LibvirtError) {
        try await act(on: reference, "virDomainDetachDeviceFlags") { (domain) throws(LibvirtError) in
            try refuseZero(in: xml, "virDomainDetachDeviceFlags")
            return virDomainDetachDeviceFlags(domain, xml, scope.rawValue)
        }
    }
}
