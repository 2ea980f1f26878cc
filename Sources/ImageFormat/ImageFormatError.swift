public import Model

/// Why a file is not accepted as an image.
public struct ImageFormatError: Error, Sendable, Hashable, CustomStringConvertible {
    /// What is wrong, for code that switches on it.
    public enum Reason: String, Sendable, Hashable, CaseIterable {
        /// The first or last bytes say another format than was claimed.
        case otherFormat
        /// Fewer bytes than announced, or than the header needs.
        case truncated
        case empty
        case unsupportedVersion
        case backingFile
        case externalDataFile
        case encrypted
        case internalSnapshots
        /// A feature bit that must be understood and is not.
        case unknownFeature
        /// The image was not closed, or its writer marked it as corrupt.
        case inconsistent
        /// A header field is outside of what the format allows.
        case malformedHeader
    }

    public let reason: Reason
    /// The format that the uploader named.
    public let claimed: DiskFormat
    /// A sentence for a person: what was claimed and what was found.
    public let message: String

    public init(_ reason: Reason, claimed: DiskFormat, _ message: String) {
        (self.reason, self.claimed, self.message) = (reason, claimed, message)
    }

    public var description: String { message }
}
