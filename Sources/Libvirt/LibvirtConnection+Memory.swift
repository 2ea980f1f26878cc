internal import CLibvirt

extension LibvirtConnection {
    /// Writes the guest's memory to a file of libvirt's and ends its process; the next start reads it. Fails with
    /// `.operationAborted` when `abortJob` stops it: the guest then goes on.
    /// - Throws: `.operationInvalid` when it does not run.
    public func managedSave(_ reference: DomainReference) async throws(LibvirtError) {
        try await act(on: reference, "virDomainManagedSave", deadline: options.saveDeadline) {
            virDomainManagedSave($0, 0)
        }
    }

    /// Whether the next start reads a saved memory.
    public func hasManagedSave(_ reference: DomainReference) async throws(LibvirtError) -> Bool {
        try await call("virDomainHasManagedSaveImage") { (connection) throws(LibvirtError) in
            let domain = try DomainHandle(reference, on: connection)
            let answer = virDomainHasManagedSaveImage(domain.pointer, 0)
            guard answer >= 0 else { throw .last("virDomainHasManagedSaveImage") }
            return answer == 1
        }
    }

    /// Removes a saved memory; nothing when there is none.
    public func removeManagedSave(_ reference: DomainReference) async throws(LibvirtError) {
        try await call("virDomainManagedSaveRemove") { (connection) throws(LibvirtError) in
            let domain = try DomainHandle(reference, on: connection)
            let answer = virDomainHasManagedSaveImage(domain.pointer, 0)
            guard answer >= 0 else { throw .last("virDomainHasManagedSaveImage") }
            guard answer == 1 else { return }
            guard virDomainManagedSaveRemove(domain.pointer, 0) == 0 else { throw .last("virDomainManagedSaveRemove") }
        }
    }

    /// Stops the job that holds the domain: a save, a backup, a migration. Does not wait for its end.
    /// - Throws: `.operationInvalid` when there is none.
    public func abortJob(_ reference: DomainReference) async throws(LibvirtError) {
        try await act(on: reference, "virDomainAbortJob") { virDomainAbortJob($0) }
    }

    /// Sends the guest a non-maskable interrupt.
    public func injectNMI(_ reference: DomainReference) async throws(LibvirtError) {
        try await act(on: reference, "virDomainInjectNMI") { virDomainInjectNMI($0, 0) }
    }
}
