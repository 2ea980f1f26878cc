/// Bytes that come piece by piece. One reader; the next piece is asked for when the last one is dealt with, and that is
/// what holds the sender back.
public protocol ByteSource: Sendable {
    /// The next piece, never empty; `nil` at the end. Throws when the rest will not come.
    func next() async throws -> [UInt8]?
}

/// Bytes that are all there already, as a source.
public actor BytesSource: ByteSource {
    private var rest: ArraySlice<UInt8>
    private let pieceSize: Int

    /// - Parameter pieceSize: bytes given out at once.
    public init(_ bytes: [UInt8], pieceSize: Int = 65_536) {
        (rest, self.pieceSize) = (bytes[...], max(1, pieceSize))
    }

    public func next() -> [UInt8]? {
        guard !rest.isEmpty else { return nil }
        defer { rest = rest.dropFirst(pieceSize) }
        return Array(rest.prefix(pieceSize))
    }
}

/// A source made of a function.
public struct ClosureSource: ByteSource {
    private let body: @Sendable () async throws -> [UInt8]?

    public init(_ body: @escaping @Sendable () async throws -> [UInt8]?) { self.body = body }

    public func next() async throws -> [UInt8]? { try await body() }
}
