internal import CLibvirt
internal import Glibc

extension LibvirtConnection {
    /// Defines a persistent domain, or replaces the definition of the one with the same name and uuid.
    /// - Parameter validate: against libvirt's schema, so that a misspelt element is an error and not ignored.
    /// - Throws: `.xmlInvalid`, `.configUnsupported`, `.domainExists` (the name with another uuid, or the reverse).
    public func define(xml: String, validate: Bool = true) async throws(LibvirtError) -> DomainIdentity {
        try await call("virDomainDefineXMLFlags") { (connection) throws(LibvirtError) in
            try refuseZero(in: xml, "virDomainDefineXMLFlags")
            let flags = validate ? VIR_DOMAIN_DEFINE_VALIDATE.rawValue : 0
            guard let domain = virDomainDefineXMLFlags(connection, xml, flags) else {
                throw .last("virDomainDefineXMLFlags")
            }
            return try DomainHandle(owning: domain).identity()
        }
    }

    /// Starts a domain that is not defined and is gone when it stops.
    /// - Throws: as `define` and `start`.
    public func createTransient(
        xml: String, options startOptions: StartOptions = []
    ) async throws(LibvirtError) -> DomainIdentity {
        try await call("virDomainCreateXML", deadline: options.startDeadline) { (connection) throws(LibvirtError) in
            try refuseZero(in: xml, "virDomainCreateXML")
            guard let domain = virDomainCreateXML(connection, xml, startOptions.startFlags) else {
                throw .last("virDomainCreateXML")
            }
            return try DomainHandle(owning: domain).identity()
        }
    }

    /// Starts a defined domain; returns when its process runs.
    /// - Parameter restores: whether it has a saved memory, which takes long to read.
    /// - Throws: `.operationInvalid` when it runs already.
    public func start(
        _ reference: DomainReference, options startOptions: StartOptions = [], restores: Bool = false
    ) async throws(LibvirtError) {
        let deadline = restores ? options.saveDeadline : options.startDeadline
        try await act(on: reference, "virDomainCreateWithFlags", deadline: deadline) {
            virDomainCreateWithFlags($0, startOptions.startFlags)
        }
    }

    /// Asks the guest to shut down, by its agent if it has one, else by the power button; returns at once. Guests may
    /// ignore it.
    /// - Throws: `.operationInvalid` when it does not run.
    public func shutdown(_ reference: DomainReference) async throws(LibvirtError) {
        try await act(on: reference, "virDomainShutdown") { virDomainShutdown($0) }
    }

    /// Pulls the plug. A transient domain is gone afterwards.
    /// - Parameter gracefully: only by SIGTERM, so that QEMU writes its caches; fails with `.operationFailed` when the
    ///   process does not end by it within 10 s.
    /// - Throws: `.operationInvalid` when it does not run.
    public func destroy(_ reference: DomainReference, gracefully: Bool = false) async throws(LibvirtError) {
        try await act(on: reference, "virDomainDestroyFlags", deadline: options.destroyDeadline) {
            virDomainDestroyFlags($0, gracefully ? VIR_DOMAIN_DESTROY_GRACEFUL.rawValue : 0)
        }
    }

    /// Asks the guest to reboot as `shutdown` asks; returns at once, the `reboot` event tells when it has. Guests may
    /// ignore it.
    public func reboot(_ reference: DomainReference) async throws(LibvirtError) {
        try await act(on: reference, "virDomainReboot") { virDomainReboot($0, 0) }
    }

    /// Resets the machine as its reset button does, without asking the guest.
    public func reset(_ reference: DomainReference) async throws(LibvirtError) {
        try await act(on: reference, "virDomainReset") { virDomainReset($0, 0) }
    }

    /// Stops the guest's CPUs; its memory stays.
    public func suspend(_ reference: DomainReference) async throws(LibvirtError) {
        try await act(on: reference, "virDomainSuspend") { virDomainSuspend($0) }
    }

    /// Lets the guest's CPUs go on.
    public func resume(_ reference: DomainReference) async throws(LibvirtError) {
        try await act(on: reference, "virDomainResume") { virDomainResume($0) }
    }

    /// Removes the definition, and with it what would keep libvirt from removing it: managed save, UEFI variables, TPM
    /// state, metadata of snapshots and checkpoints. A running domain becomes transient.
    public func undefine(_ reference: DomainReference, keep: UndefineKeep = []) async throws(LibvirtError) {
        try await call("virDomainUndefineFlags") { (connection) throws(LibvirtError) in
            let domain = try DomainHandle(reference, on: connection)
            guard let text = virDomainGetXMLDesc(domain.pointer, VIR_DOMAIN_XML_INACTIVE.rawValue) else {
                throw .last("virDomainGetXMLDesc")
            }
            let flags = undefineFlags(for: takeString(text), keep: keep)
            let checkpoints = VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA.rawValue
            if virDomainUndefineFlags(domain.pointer, flags | checkpoints) == 0 { return }
            let error = LibvirtError.last("virDomainUndefineFlags")
            // A driver without checkpoints refuses their flag.
            guard error.code == .argumentInvalid else { throw error }
            guard virDomainUndefineFlags(domain.pointer, flags) == 0 else { throw .last("virDomainUndefineFlags") }
        }
    }

    /// The domain's description; that of the running domain if it runs and `.inactive` is not given.
    public func xml(
        of reference: DomainReference, options xmlOptions: XMLOptions = []
    ) async throws(LibvirtError) -> String {
        try await call("virDomainGetXMLDesc") { (connection) throws(LibvirtError) in
            let domain = try DomainHandle(reference, on: connection)
            guard let text = virDomainGetXMLDesc(domain.pointer, xmlOptions.rawValue) else {
                throw .last("virDomainGetXMLDesc")
            }
            return takeString(text)
        }
    }

    /// Who the domain is.
    /// - Throws: `.noDomain`.
    public func identity(of reference: DomainReference) async throws(LibvirtError) -> DomainIdentity {
        try await call("virDomainLookup") { (connection) throws(LibvirtError) in
            try DomainHandle(reference, on: connection).identity()
        }
    }

    /// Whether the domain runs, and why it does or not. Does not wait for a job that holds the domain.
    public func status(of reference: DomainReference) async throws(LibvirtError) -> DomainStatus {
        try await call("virDomainGetState") { (connection) throws(LibvirtError) in
            try DomainHandle(reference, on: connection).status()
        }
    }

    /// Everything about the domain that is one number.
    public func info(of reference: DomainReference) async throws(LibvirtError) -> DomainInfo {
        try await call("virDomainGetInfo") { (connection) throws(LibvirtError) in
            try DomainHandle(reference, on: connection).info()
        }
    }

    /// The domains that `filter` lets through, in no order.
    public func domains(_ filter: DomainFilter = []) async throws(LibvirtError) -> [DomainIdentity] {
        try await call("virConnectListAllDomains") { (connection) throws(LibvirtError) in
            try DomainList(of: connection, filter).identities()
        }
    }

    func act(
        on reference: DomainReference, _ name: String, deadline: Duration? = nil,
        _ body: @escaping @Sendable (virDomainPtr) throws(LibvirtError) -> Int32
    ) async throws(LibvirtError) {
        try await call(name, deadline: deadline) { (connection) throws(LibvirtError) in
            let domain = try DomainHandle(reference, on: connection)
            guard try body(domain.pointer) == 0 else { throw .last(name) }
        }
    }
}

extension StartOptions {
    fileprivate var startFlags: UInt32 {
        (contains(.paused) ? VIR_DOMAIN_START_PAUSED.rawValue : 0)
            | (contains(.autodestroy) ? VIR_DOMAIN_START_AUTODESTROY.rawValue : 0)
            | (contains(.validate) ? VIR_DOMAIN_START_VALIDATE.rawValue : 0)
    }
}

/// The flags of `virDomainUndefineFlags` that a definition needs. Drivers refuse flags they do not know, so those for
/// NVRAM and TPM are given only where the definition has one. In XML that libvirt wrote, `<` begins nothing but markup.
func undefineFlags(for xml: String, keep: UndefineKeep) -> UInt32 {
    var flags =
        VIR_DOMAIN_UNDEFINE_MANAGED_SAVE.rawValue | VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA.rawValue
    if xml.contains("<nvram") || xml.contains("firmware='efi'") {
        flags |= keep.contains(.nvram) ? VIR_DOMAIN_UNDEFINE_KEEP_NVRAM.rawValue : VIR_DOMAIN_UNDEFINE_NVRAM.rawValue
    }
    if xml.contains("<tpm") {
        flags |= keep.contains(.tpm) ? VIR_DOMAIN_UNDEFINE_KEEP_TPM.rawValue : VIR_DOMAIN_UNDEFINE_TPM.rawValue
    }
    return flags
}

extension DomainHandle {
    fileprivate func status() throws(LibvirtError) -> DomainStatus {
        var state: Int32 = 0
        var reason: Int32 = 0
        guard virDomainGetState(pointer, &state, &reason, 0) == 0 else { throw .last("virDomainGetState") }
        return DomainStatus(state: state, reason: reason)
    }

    fileprivate func info() throws(LibvirtError) -> DomainInfo {
        var info = virDomainInfo()
        guard virDomainGetInfo(pointer, &info) == 0 else { throw .last("virDomainGetInfo") }
        let isPersistent = virDomainIsPersistent(pointer)
        guard isPersistent >= 0 else { throw .last("virDomainIsPersistent") }
        let isActive = virDomainIsActive(pointer)
        guard isActive >= 0 else { throw .last("virDomainIsActive") }
        var autostart: Int32 = 0
        // A transient domain has no autostart to ask for.
        if isPersistent == 1, virDomainGetAutostart(pointer, &autostart) < 0 { throw .last("virDomainGetAutostart") }
        return DomainInfo(
            identity: try identity(), status: try status(), isPersistent: isPersistent == 1, isActive: isActive == 1,
            isAutostarted: autostart == 1, maximumMemoryKiB: UInt64(info.maxMem), memoryKiB: UInt64(info.memory),
            vcpus: Int(info.nrVirtCpu), cpuTime: .nanoseconds(Int64(clamping: info.cpuTime)))
    }
}

/// Owns what `virConnectListAllDomains` returned: each domain, and the array.
private struct DomainList: ~Copyable {
    private let items: UnsafeMutablePointer<virDomainPtr?>?
    private let count: Int

    init(of connection: virConnectPtr, _ filter: DomainFilter) throws(LibvirtError) {
        var found: UnsafeMutablePointer<virDomainPtr?>?
        let count = virConnectListAllDomains(connection, &found, filter.rawValue)
        guard count >= 0 else { throw .last("virConnectListAllDomains") }
        items = found
        self.count = Int(count)
    }

    deinit {
        for domain in UnsafeBufferPointer(start: items, count: count) {
            if let domain { virDomainFree(domain) }
        }
        free(items)
    }

    func identities() throws(LibvirtError) -> [DomainIdentity] {
        var all: [DomainIdentity] = []
        all.reserveCapacity(count)
        for domain in UnsafeBufferPointer(start: items, count: count) {
            if let domain { all.append(try DomainIdentity(reading: domain)) }
        }
        return all
    }
}
