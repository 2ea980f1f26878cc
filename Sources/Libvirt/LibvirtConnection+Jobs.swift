internal import CLibvirt
internal import Glibc

extension LibvirtConnection {
    /// Begins to write the domain's disks, as they are at this moment, into files; returns when it has begun. A
    /// `JobEnd` tells its end.
    /// - Parameter xml: a `domainbackup`, which names each file and its format.
    /// - Throws: `.operationInvalid` when the domain is off or a job is under way, `.argumentInvalid` when a file is
    ///   there already.
    public func beginBackup(_ reference: DomainReference, xml: String) async throws(LibvirtError) {
        try await call("virDomainBackupBegin") { (connection) throws(LibvirtError) in
            try refuseZero(in: xml, "virDomainBackupBegin")
            let domain = try DomainHandle(reference, on: connection)
            guard virDomainBackupBegin(domain.pointer, xml, nil, 0) == 0 else { throw .last("virDomainBackupBegin") }
        }
    }

    /// The `domainbackup` that is under way; `nil` when there is none.
    public func backupXML(of reference: DomainReference) async throws(LibvirtError) -> String? {
        try await call("virDomainBackupGetXMLDesc") { (connection) throws(LibvirtError) in
            let domain = try DomainHandle(reference, on: connection)
            if let text = virDomainBackupGetXMLDesc(domain.pointer, 0) { return takeString(text) }
            let error = LibvirtError.last("virDomainBackupGetXMLDesc")
            switch error.code {
            // Nothing is under way, the domain is off, or the driver has no such jobs.
            case .noBackup, .operationInvalid, .noSupport: return nil
            default: throw error
            }
        }
    }

    /// Whether a backup holds the domain that is no more: the daemon ended while it began one, and took it for under way
    /// when it came back. No save, copy or migration can begin on the domain until it is off, and no abort ends that.
    public func isHeldByLostBackup(_ reference: DomainReference) async throws(LibvirtError) -> Bool {
        try await call("virDomainGetJobStats") { (connection) throws(LibvirtError) in
            let domain = try DomainHandle(reference, on: connection)
            var type: Int32 = 0
            var parameters: virTypedParameterPtr?
            var count: Int32 = 0
            if virDomainGetJobStats(domain.pointer, &type, &parameters, &count, 0) == 0 {
                virTypedParamsFree(parameters, count)
                return false
            }
            let error = virGetLastError()?.pointee
            // The daemon's own words for it are an internal error; then it has no description of the backup either.
            guard error?.code == Int32(VIR_ERR_INTERNAL_ERROR.rawValue),
                error?.domain == Int32(VIR_FROM_QEMU.rawValue)
            else { return false }
            if let text = virDomainBackupGetXMLDesc(domain.pointer, 0) {
                free(text)
                return false
            }
            return virGetLastError()?.pointee.code == Int32(VIR_ERR_NO_DOMAIN_BACKUP.rawValue)
        }
    }

    /// How far the domain's job is; `nil` when none is under way, which does not say that one has succeeded.
    public func jobProgress(_ reference: DomainReference) async throws(LibvirtError) -> JobProgress? {
        try await call("virDomainGetJobStats") { (connection) throws(LibvirtError) in
            let domain = try DomainHandle(reference, on: connection)
            var type: Int32 = 0
            var parameters: virTypedParameterPtr?
            var count: Int32 = 0
            guard virDomainGetJobStats(domain.pointer, &type, &parameters, &count, 0) == 0 else {
                throw .last("virDomainGetJobStats")
            }
            defer { virTypedParamsFree(parameters, count) }
            guard type != Int32(VIR_DOMAIN_JOB_NONE.rawValue) else { return nil }
            let values = decodeParameters(parameters, count: Int(count))
            return JobProgress(
                processedBytes: values[VIR_DOMAIN_JOB_DISK_PROCESSED]?.unsignedValue ?? 0,
                totalBytes: values[VIR_DOMAIN_JOB_DISK_TOTAL]?.unsignedValue ?? 0)
        }
    }

    /// Whether the domain's last job that ended was a backup which did all its work; `nil` when none is remembered, as
    /// after a restart of the daemon. To be asked once it is known that the job in question has ended.
    public func hasLastBackupSucceeded(_ reference: DomainReference) async throws(LibvirtError) -> Bool? {
        try await call("virDomainGetJobStats") { (connection) throws(LibvirtError) in
            let domain = try DomainHandle(reference, on: connection)
            var type: Int32 = 0
            var parameters: virTypedParameterPtr?
            var count: Int32 = 0
            let flags = VIR_DOMAIN_JOB_STATS_COMPLETED.rawValue | VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED.rawValue
            guard virDomainGetJobStats(domain.pointer, &type, &parameters, &count, flags) == 0 else {
                throw .last("virDomainGetJobStats")
            }
            defer { virTypedParamsFree(parameters, count) }
            guard type != Int32(VIR_DOMAIN_JOB_NONE.rawValue) else { return nil }
            let values = decodeParameters(parameters, count: Int(count))
            return type == Int32(VIR_DOMAIN_JOB_COMPLETED.rawValue)
                && values[VIR_DOMAIN_JOB_OPERATION]?.integerValue == Int64(VIR_DOMAIN_JOB_OPERATION_BACKUP.rawValue)
        }
    }

    /// Returns when the hypervisor has let go of the files of a backup whose end was told.
    ///
    /// libvirt tells the end first and has QEMU close the file after it, which is when the last tables of the format
    /// are written. It holds the domain meanwhile, so that a question for which it has to take the domain waits.
    /// - Parameter disk: one of the domain's disks, by its file.
    public func awaitBackupClosed(_ reference: DomainReference, disk: String) async throws(LibvirtError) {
        try await call("virDomainGetBlockInfo") { (connection) throws(LibvirtError) in
            try refuseZero(in: disk, "virDomainGetBlockInfo")
            let domain = try DomainHandle(reference, on: connection)
            var info = virDomainBlockInfo()
            guard virDomainGetBlockInfo(domain.pointer, disk, &info, 0) == 0 else {
                throw .last("virDomainGetBlockInfo")
            }
        }
    }

    /// Has the guest agent write out and hold every file system of the guest, until `thawFileSystems`. The agent gets
    /// `seconds` to answer; without a bound a hung one would hold the domain for ever.
    ///
    /// After `.agentUnresponsive` or `.operationTimeout` the guest may still freeze: thaw it all the same.
    /// - Throws: `.agentMissing` when the domain has no agent or none is connected, in which case nothing was asked.
    public func freezeFileSystems(_ reference: DomainReference, seconds: Int) async throws(LibvirtError) {
        try await agentCall(reference, "virDomainFSFreeze", seconds) { virDomainFSFreeze($0, nil, 0, 0) }
    }

    /// Lets the guest's file systems go on; nothing when they do.
    /// - Throws: as `freezeFileSystems`.
    public func thawFileSystems(_ reference: DomainReference, seconds: Int) async throws(LibvirtError) {
        try await agentCall(reference, "virDomainFSThaw", seconds) { virDomainFSThaw($0, nil, 0, 0) }
    }

    private func agentCall(
        _ reference: DomainReference, _ name: String, _ seconds: Int,
        _ body: @escaping @Sendable (virDomainPtr) -> Int32
    ) async throws(LibvirtError) {
        try await call(name, deadline: .seconds(seconds + 10)) { (connection) throws(LibvirtError) in
            let domain = try DomainHandle(reference, on: connection)
            guard virDomainAgentSetResponseTimeout(domain.pointer, Int32(clamping: seconds), 0) == 0 else {
                throw .lastOfAgent("virDomainAgentSetResponseTimeout")
            }
            guard body(domain.pointer) >= 0 else { throw .lastOfAgent(name) }
        }
    }
}

extension LibvirtError {
    /// An agent that was never asked has codes of its own for each reason.
    fileprivate static func lastOfAgent(_ call: String) -> LibvirtError {
        let error = last(call)
        switch error.code {
        case .noSupport, .configUnsupported, .operationInvalid:
            return LibvirtError(.agentMissing, call: call, message: error.message)
        default: return error
        }
    }
}
