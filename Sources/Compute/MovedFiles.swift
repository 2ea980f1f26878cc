public import Model

/// A file of an instance that has been set aside for a move.
public struct MovedFile: Sendable, Hashable, Codable {
    /// In the instance's folder; of the names that drivers give, never a path.
    public var name: String
    public var sizeBytes: Int64
    /// So much of it is data; the rest reads as zeros.
    public var dataBytes: Int64
    /// Of a disk; `nil` for other files.
    public var format: DiskFormat?

    public init(name: String, sizeBytes: Int64, dataBytes: Int64, format: DiskFormat? = nil) {
        (self.name, self.sizeBytes, self.dataBytes, self.format) = (name, sizeBytes, dataBytes, format)
    }
}

/// A part of a file that holds data.
public struct DataExtent: Sendable, Hashable, Codable {
    public var offset: Int64
    public var length: Int64

    public init(offset: Int64, length: Int64) { (self.offset, self.length) = (offset, length) }
    public var end: Int64 { offset + length }
}

/// The files of an instance that another host, or this one, has set aside. Every call throws `Failure`, retriable where
/// the other host may be there again soon.
public protocol MovedFiles: Sendable {
    func list() async throws -> [MovedFile]
    /// The parts with data that end behind `offset`, in order; at most 1,000. Empty: there are no more.
    func extents(of name: String, from offset: Int64) async throws -> [DataExtent]
    /// Just `count` bytes, at most 4 MiB.
    func read(_ name: String, at offset: Int64, count: Int) async throws -> [UInt8]
}
