/// The version of a method: the receiver accepts every minor of its major.
public struct RPCVersion: Sendable, Hashable, Comparable, Codable, CustomStringConvertible {
    public let major: Int
    public let minor: Int

    public init(_ major: Int, _ minor: Int) { (self.major, self.minor) = (major, minor) }

    public var description: String { "\(major).\(minor)" }

    public static func < (left: RPCVersion, right: RPCVersion) -> Bool {
        (left.major, left.minor) < (right.major, right.minor)
    }
}

/// What an answer means.
public enum RPCKind: String, Sendable, Hashable, Codable {
    /// The answer is the result.
    case call
    /// The answer says "recorded": the receiver has the request on disk before it answers.
    case cast
}

/// One remote method: its name, its version and its two wire structs.
public protocol RPCMethod: Sendable {
    associatedtype Params: Codable & Sendable
    associatedtype Result: Codable & Sendable
    /// `<receiver>.<verb>`, as it stands in the request's `method`.
    static var name: String { get }
    static var version: RPCVersion { get }
    static var kind: RPCKind { get }
    /// One sentence for the OpenRPC document.
    static var summary: String { get }
    /// How long a caller waits before it gives up, unless it says otherwise.
    static var timeout: Duration { get }
}

extension RPCMethod {
    public static var version: RPCVersion { RPCVersion(1, 0) }
    public static var timeout: Duration { .seconds(60) }
}

/// An empty result: the method only confirms.
public struct RPCConfirmation: Sendable, Hashable, Codable {
    public init() {}
}
