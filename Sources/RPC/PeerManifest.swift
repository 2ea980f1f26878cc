public import Model

/// What a peer of another release understands.
public struct PeerManifest: Sendable, Hashable, Codable {
    /// More than any release has; a peer that names more is refused.
    public static let methodLimit = 1_000

    /// The release's number, as in `AgentVersion`.
    public var release: Int
    /// The version of each method that the peer serves, by the method's name.
    public var methods: [String: RPCVersion]

    public init(release: Int, methods: [String: RPCVersion]) { (self.release, self.methods) = (release, methods) }

    /// Throws `.invalidParameters` for what no peer can truly say of itself.
    public func check() throws(Failure) {
        guard methods.count <= Self.methodLimit, methods.keys.allSatisfy({ (1...100).contains($0.utf8.count) }),
            release > 0, methods.values.allSatisfy({ $0.major >= 0 && $0.minor >= 0 })
        else { throw Failure(.invalidParameters, "a manifest names a release and at most 1000 methods with versions") }
    }

    /// In which form the peer takes the method: our own, or an earlier minor. Throws `.unsupportedVersion` when in none.
    func version<M: RPCMethod>(of method: M.Type) throws(Failure) -> RPCVersion {
        guard let known = methods[M.name] else {
            throw Failure(.unsupportedVersion, "the peer is of release \(release), which has no \(M.name): upgrade it")
        }
        guard known.major == M.version.major else {
            throw Failure(
                .unsupportedVersion,
                "the peer is of release \(release), which has \(M.name) as \(known), not as \(M.version): upgrade it")
        }
        return min(known, M.version)
    }
}
