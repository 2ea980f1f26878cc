internal import CLibvirt

/// A libvirt call that failed, as read on the thread where it failed.
public struct LibvirtError: Error, Sendable, Hashable, CustomStringConvertible {
    /// What callers decide by. Codes that nobody treats specially are `.other`.
    public enum Code: Sendable, Hashable {
        /// No domain of that name or uuid.
        case noDomain
        /// No network of that name.
        case noNetwork
        /// A domain of that name or uuid exists with another uuid or name.
        case domainExists
        /// A network of that name exists already.
        case networkExists
        /// The object is in a state in which the call makes no sense: starting what runs, stopping what does not.
        case operationInvalid
        /// The hypervisor tried and could not.
        case operationFailed
        /// Another job held the domain for too long, or the call exceeded its deadline.
        case operationTimeout
        /// Someone aborted the job.
        case operationAborted
        /// The connection is closed, broken, or could not be made. Nothing is known about the guests.
        case connectionLost
        /// The daemon wants credentials or refuses this user.
        case authenticationFailed
        /// The connection may not do this: read-only or forbidden by policy.
        case denied
        /// Not well-formed, not valid against the schema, or an element with an impossible value.
        case xmlInvalid
        /// Valid, but this hypervisor cannot do it.
        case configUnsupported
        /// An argument or a flag is wrong or not known.
        case argumentInvalid
        /// The driver does not have this call, or not with these flags.
        case noSupport
        /// The guest agent does not answer.
        case agentUnresponsive
        /// The domain has no guest agent, or is off: nothing was asked of one.
        case agentMissing
        /// No backup is under way.
        case noBackup
        /// A resource is in use by another.
        case resourceBusy
        /// No device of the host has that name.
        case noNodeDevice
        /// The device is not in the domain.
        case deviceMissing
        /// The CPU of the host does not suit.
        case cpuIncompatible
        /// The calling task was cancelled before the call began.
        case cancelled
        /// Too many calls wait for this connection; nothing was sent.
        case overloaded
        /// Any other, by libvirt's numbers (`virErrorNumber`, `virErrorDomain`).
        case other(code: Int32, domain: Int32)
    }

    public let code: Code
    /// The C function that failed.
    public let call: String
    /// libvirt's own words; for people and logs, never for decisions.
    public let message: String

    public init(_ code: Code, call: String, message: String) {
        self.code = code
        self.call = call
        self.message = message
    }

    public var description: String { "\(call): \(message) (\(code))" }

    /// Short name of the code for metrics.
    var metricName: String {
        if case .other = code { return "other" }
        return "\(code)"
    }

    /// The error that the last call on this thread left; to be read before anything else runs on it.
    static func last(_ call: String) -> LibvirtError {
        guard let error = virGetLastError() else {
            return LibvirtError(.other(code: 0, domain: 0), call: call, message: "failed without an error")
        }
        let message = error.pointee.message.map { String(cString: $0) } ?? "no message"
        return LibvirtError(
            Code(number: error.pointee.code, domain: error.pointee.domain), call: call, message: message)
    }
}

extension LibvirtError.Code {
    init(number: Int32, domain: Int32) {
        // A broken connection shows as a general error from the layer that talks to the daemon.
        let isTransport = domain == virDomainValue(VIR_FROM_REMOTE) || domain == virDomainValue(VIR_FROM_RPC)
        switch virErrorNumber(rawValue: UInt32(bitPattern: number)) {
        case VIR_ERR_SYSTEM_ERROR where isTransport, VIR_ERR_INTERNAL_ERROR where isTransport,
            VIR_ERR_RPC, VIR_ERR_NO_CONNECT, VIR_ERR_INVALID_CONN, VIR_ERR_GNUTLS_ERROR:
            self = .connectionLost
        case VIR_ERR_NO_DOMAIN: self = .noDomain
        case VIR_ERR_NO_NETWORK: self = .noNetwork
        case VIR_ERR_DOM_EXIST: self = .domainExists
        case VIR_ERR_NETWORK_EXIST: self = .networkExists
        case VIR_ERR_OPERATION_INVALID: self = .operationInvalid
        case VIR_ERR_OPERATION_FAILED: self = .operationFailed
        case VIR_ERR_OPERATION_TIMEOUT: self = .operationTimeout
        case VIR_ERR_OPERATION_ABORTED: self = .operationAborted
        case VIR_ERR_AUTH_FAILED, VIR_ERR_AUTH_CANCELLED, VIR_ERR_AUTH_UNAVAILABLE: self = .authenticationFailed
        case VIR_ERR_OPERATION_DENIED, VIR_ERR_ACCESS_DENIED: self = .denied
        case VIR_ERR_XML_ERROR, VIR_ERR_XML_DETAIL, VIR_ERR_XML_INVALID_SCHEMA, VIR_ERR_OS_TYPE, VIR_ERR_NO_NAME,
            VIR_ERR_NO_OS, VIR_ERR_INVALID_MAC:
            self = .xmlInvalid
        case VIR_ERR_CONFIG_UNSUPPORTED: self = .configUnsupported
        case VIR_ERR_INVALID_ARG: self = .argumentInvalid
        case VIR_ERR_NO_SUPPORT, VIR_ERR_ARGUMENT_UNSUPPORTED, VIR_ERR_OPERATION_UNSUPPORTED, VIR_ERR_CALL_FAILED:
            self = .noSupport
        case VIR_ERR_AGENT_UNRESPONSIVE, VIR_ERR_AGENT_UNSYNCED: self = .agentUnresponsive
        case VIR_ERR_NO_DOMAIN_BACKUP: self = .noBackup
        case VIR_ERR_RESOURCE_BUSY: self = .resourceBusy
        case VIR_ERR_NO_NODE_DEVICE: self = .noNodeDevice
        case VIR_ERR_DEVICE_MISSING: self = .deviceMissing
        case VIR_ERR_CPU_INCOMPATIBLE: self = .cpuIncompatible
        default: self = .other(code: number, domain: domain)
        }
    }
}

private func virDomainValue(_ domain: virErrorDomain) -> Int32 { Int32(bitPattern: domain.rawValue) }
