internal import CLibvirt

/// How a job on a domain ended.
///
/// Asked afterwards, libvirt says the same of a job that has not begun, has finished, or has failed: what this event
/// says is the truth, statistics are progress.
public struct JobEnd: Sendable, Hashable {
    /// Which kind of job.
    public enum Operation: Sendable, Hashable {
        case backup
        /// Another, by libvirt's number; `nil` where it did not say.
        case other(Int64?)
    }

    /// Of the domain.
    public let uuid: String
    public let operation: Operation
    public let isSuccessful: Bool
    /// What the hypervisor said of a job that failed; `nil` where it said nothing, as when its process died.
    public let errorMessage: String?

    public init(uuid: String, operation: Operation, isSuccessful: Bool, errorMessage: String? = nil) {
        (self.uuid, self.operation) = (uuid, operation)
        (self.isSuccessful, self.errorMessage) = (isSuccessful, errorMessage)
    }

    init(uuid: String, _ values: [String: TypedValue]) {
        let number = values[VIR_DOMAIN_JOB_OPERATION]?.integerValue
        self.init(
            uuid: uuid,
            operation: number == Int64(VIR_DOMAIN_JOB_OPERATION_BACKUP.rawValue) ? .backup : .other(number),
            isSuccessful: values[VIR_DOMAIN_JOB_SUCCESS]?.unsignedValue == 1,
            errorMessage: values[VIR_DOMAIN_JOB_ERRMSG]?.textValue)
    }
}

/// How far a job on a domain is. Says nothing of how it ends: see `JobEnd`.
public struct JobProgress: Sendable, Hashable {
    /// Bytes of disks.
    public let processedBytes: UInt64
    public let totalBytes: UInt64

    public init(processedBytes: UInt64, totalBytes: UInt64) {
        (self.processedBytes, self.totalBytes) = (processedBytes, totalBytes)
    }
}
