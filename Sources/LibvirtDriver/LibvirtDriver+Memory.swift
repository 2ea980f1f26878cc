internal import Libvirt
public import Model
internal import Telemetry

// What a guest's processors and memory do while its disks stay.
extension LibvirtDriver {
    public func pause(_ id: InstanceID) async throws {
        let entry = try await active(id, "paused")
        try await onGuest(id, "pausing \(entry.name)", isDone: { $0.state == .paused }) {
            (connection) throws(LibvirtError) in
            try await connection.suspend(.uuid(id.rawValue))
        }
    }

    public func unpause(_ id: InstanceID) async throws {
        let entry = try await active(id, "resumed")
        try await onGuest(id, "resuming \(entry.name)", isDone: { $0.state == .running }) {
            (connection) throws(LibvirtError) in
            try await connection.resume(.uuid(id.rawValue))
        }
        guard entry.hasAgentChannel else { return }
        do {
            try await connection(.work).synchroniseClock(.uuid(id.rawValue))
        } catch {
            // Best effort: the guest's own means set the clock too, only later.
            log.debug("a guest's clock was not set after its pause", ["instance": id, "error": LoggedError(error)])
        }
    }

    public func suspend(_ id: InstanceID) async throws {
        guard let entry = try await own(id) else { throw Self.noGuest(id) }
        let reference = DomainReference.uuid(id.rawValue)
        guard try await status(of: id)?.state.isActive == true else {
            let isSaved = try await translated("looking for the saved memory of \(entry.name)") {
                try await connection(.work).hasManagedSave(reference)
            }
            guard isSaved else { throw Failure(.conflict, "\(entry.name) is off; there is no memory to save") }
            return
        }
        let (work, control) = (try await connection(.work), try await connection(.control))
        try await refuseLostBackup(id)
        do {
            try await withTaskCancellationHandler {
                try await work.managedSave(reference)
            } onCancel: {
                // A save takes as long as the memory is large, and whoever cancelled waits for its end.
                Task {
                    do { try await control.abortJob(reference) } catch {
                        self.log.debug("no save was aborted", ["instance": id, "error": LoggedError(error)])
                    }
                }
            }
        } catch let error as LibvirtError {
            throw Failure(error, "saving the memory of \(entry.name)")
        }
    }

    public func resume(_ id: InstanceID) async throws {
        guard let entry = try await own(id) else { throw Self.noGuest(id) }
        if try await status(of: id)?.state.isActive == true { return }
        try await completeAddresses(of: id)
        let connection = try await connection(.work)
        let reference = DomainReference.uuid(id.rawValue)
        do {
            guard try await connection.hasManagedSave(reference) else {
                throw Failure(.notFound, "there is no saved memory of \(entry.name)")
            }
            try await connection.start(reference, restores: true)
            requestUpkeep()
        } catch let error as LibvirtError {
            if error.code != .connectionLost, try await status(of: id)?.state.isActive == true { return }
            throw Failure(error, "resuming \(entry.name)")
        }
        // libvirt boots the guest when it finds that the file was not written to its end.
        guard try await status(of: id)?.reason == .booted else { return }
        try await powerOff(id, grace: .zero)
        throw Failure(.notFound, "the saved memory of \(entry.name) is incomplete; libvirt has removed it")
    }

    public func discardSavedMemory(_ id: InstanceID) async throws {
        guard let entry = try await own(id) else { throw Self.noGuest(id) }
        try await translated("removing the saved memory of \(entry.name)") {
            try await connection(.work).removeManagedSave(.uuid(id.rawValue))
        }
    }

    public func injectNMI(_ id: InstanceID) async throws {
        let entry = try await active(id, "interrupted")
        try await translated("interrupting \(entry.name)") {
            try await connection(.work).injectNMI(.uuid(id.rawValue))
        }
    }

    /// The entry of a guest of ours that is on.
    func active(_ id: InstanceID, _ what: String) async throws -> DomainDirectory.Entry {
        guard let entry = try await own(id) else { throw Self.noGuest(id) }
        guard try await status(of: id)?.state.isActive == true else {
            throw Failure(.conflict, "\(entry.name) is off and cannot be \(what)")
        }
        return entry
    }

    /// Runs `body` unless the guest's state says that it is done; likewise after an error.
    private func onGuest(
        _ id: InstanceID, _ what: String, isDone: (DomainStatus) -> Bool,
        _ body: (LibvirtConnection) async throws(LibvirtError) -> Void
    ) async throws {
        if let status = try await status(of: id), isDone(status) { return }
        let connection = try await connection(.work)
        do {
            try await body(connection)
        } catch {
            if error.code != .connectionLost, let status = try await status(of: id), isDone(status) { return }
            throw Failure(error, what)
        }
    }
}
