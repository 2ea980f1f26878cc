internal import CLibvirt
internal import Glibc

/// Owns one reference to a libvirt domain; dropping it calls `virDomainFree`.
struct DomainHandle: ~Copyable {
    let pointer: virDomainPtr

    /// Takes over a reference the caller owns (`+1`), as the lookup functions return it.
    init(owning pointer: virDomainPtr) { self.pointer = pointer }

    deinit { virDomainFree(pointer) }

    /// Looks the domain up; one round trip to the daemon.
    init(_ reference: DomainReference, on connection: virConnectPtr) throws(LibvirtError) {
        virResetLastError()
        switch reference {
        case .uuid(let uuid):
            try refuseZero(in: uuid, "virDomainLookupByUUIDString")
            guard let found = virDomainLookupByUUIDString(connection, uuid) else {
                throw .last("virDomainLookupByUUIDString")
            }
            pointer = found
        case .name(let name):
            try refuseZero(in: name, "virDomainLookupByName")
            guard let found = virDomainLookupByName(connection, name) else { throw .last("virDomainLookupByName") }
            pointer = found
        }
    }

    /// Who this is; without a round trip, except for whether it is persistent and active.
    func identity() throws(LibvirtError) -> DomainIdentity {
        try DomainIdentity(reading: pointer)
    }
}

extension DomainIdentity {
    /// Reads what the pointer itself holds; makes no call to the daemon, so it is safe on the event thread.
    init(reading pointer: virDomainPtr) throws(LibvirtError) {
        guard let uuid = uuidString({ virDomainGetUUIDString(pointer, $0) }) else {
            throw .last("virDomainGetUUIDString")
        }
        guard let name = virDomainGetName(pointer) else { throw .last("virDomainGetName") }
        let id = virDomainGetID(pointer)
        self.init(uuid: uuid, name: String(cString: name), id: id == UInt32.max ? nil : Int(id))
    }
}

/// Owns one reference to a libvirt network; dropping it calls `virNetworkFree`.
struct NetworkHandle: ~Copyable {
    let pointer: virNetworkPtr

    /// Takes over a reference the caller owns (`+1`).
    init(owning pointer: virNetworkPtr) { self.pointer = pointer }

    deinit { virNetworkFree(pointer) }

    /// Looks the network up; one round trip to the daemon.
    init(named name: String, on connection: virConnectPtr) throws(LibvirtError) {
        virResetLastError()
        try refuseZero(in: name, "virNetworkLookupByName")
        guard let found = virNetworkLookupByName(connection, name) else { throw .last("virNetworkLookupByName") }
        pointer = found
    }
}

/// C would take the text up to its first zero byte for the whole: a name would then be another domain's.
func refuseZero(in text: String, _ call: String) throws(LibvirtError) {
    guard !text.utf8.contains(0) else {
        throw LibvirtError(.argumentInvalid, call: call, message: "the text contains a zero byte")
    }
}

/// The text that a `…GetUUIDString` function writes, or `nil` when it fails.
func uuidString(_ read: (UnsafeMutablePointer<CChar>) -> Int32) -> String? {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: APUS_UUID_STRING_LENGTH) { buffer in
        guard let base = buffer.baseAddress else { return nil }
        buffer.initialize(repeating: 0)
        return read(base) == 0 ? String(cString: base) : nil
    }
}

/// The text of a string that libvirt allocated for the caller, which is freed.
func takeString(_ text: UnsafeMutablePointer<CChar>) -> String {
    defer { free(text) }
    return String(cString: text)
}
