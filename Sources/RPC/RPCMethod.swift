public import Model

/// The version of a method: the receiver accepts every minor of its major. As JSON a text, `"1.0"`.
public struct RPCVersion: Sendable, Hashable, Comparable, Codable, CustomStringConvertible {
    public let major: Int
    public let minor: Int

    public init(_ major: Int, _ minor: Int) { (self.major, self.minor) = (major, minor) }

    /// `nil` for anything but `MAJOR.MINOR`.
    public init?(_ text: String) {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false).map { Int($0) }
        guard parts.count == 2, let major = parts[0], let minor = parts[1] else { return nil }
        self.init(major, minor)
    }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        guard let version = RPCVersion(try container.decode(String.self)) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "a version is MAJOR.MINOR")
        }
        self = version
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }

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
    /// The parameters as a receiver of `version` knows them, an earlier minor of the same major: what came later is left
    /// out. Throws `.unsupportedVersion` where that would ask for something else.
    static func backport(_ params: Params, to version: RPCVersion) throws(Failure) -> Params
    /// The same for a caller of `version` that is answered.
    static func backport(result: Result, to version: RPCVersion) throws(Failure) -> Result
}

extension RPCMethod {
    public static func backport(_ params: Params, to version: RPCVersion) throws(Failure) -> Params { params }
    public static func backport(result: Result, to version: RPCVersion) throws(Failure) -> Result { result }
    public static var version: RPCVersion { RPCVersion(1, 0) }
    public static var timeout: Duration { .seconds(60) }
}

/// An empty result: the method only confirms.
public struct RPCConfirmation: Sendable, Hashable, Codable {
    public init() {}
}
