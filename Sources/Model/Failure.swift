/// The closed set of what can go wrong between processes. The text crosses the wire as `data.kind`.
public enum FailureKind: String, Sendable, Hashable, Codable, CaseIterable {
    case invalidParameters = "invalid_parameters"
    case methodNotFound = "method_not_found"
    case unsupportedVersion = "unsupported_version"
    case unauthenticated
    case forbidden
    case notFound = "not_found"
    /// The instance's state, or a newer (generation, epoch), does not admit the command.
    case conflict
    /// The same idempotency key came with other parameters.
    case idempotencyMismatch = "idempotency_mismatch"
    case insufficientResources = "insufficient_resources"
    case noValidHost = "no_valid_host"
    /// The image cannot be used: gone, not what it claims to be, larger than the flavor's disk.
    case imageUnacceptable = "image_unacceptable"
    case networkUnavailable = "network_unavailable"
    case hypervisor
    case storage
    case unreachable
    case timeout
    case cancelled
    /// A bound was reached: queue full, too many requests.
    case overloaded
    case internalError = "internal_error"
}

/// An error that says by itself what it is to others.
public protocol FailureConvertible: Error {
    /// The error as it crosses process borders.
    var failure: Failure { get }
}

/// A failure as it crosses process borders and lands in task rows and faults.
public struct Failure: Error, Sendable, Hashable, Codable, CustomStringConvertible {
    public var kind: FailureKind
    /// A sentence for a person: what was asked and what was there.
    public var message: String
    /// Whether the same request, sent again later or to another host, may succeed.
    public var isRetriable: Bool
    /// More, for administrators: a line each.
    public var details: String?

    public init(_ kind: FailureKind, _ message: String, isRetriable: Bool = false, details: String? = nil) {
        (self.kind, self.message, self.isRetriable, self.details) = (kind, message, isRetriable, details)
    }

    public var description: String { "\(kind.rawValue): \(message)" }

    enum CodingKeys: String, CodingKey {
        case kind, message, details
        case isRetriable = "retriable"
    }
}
