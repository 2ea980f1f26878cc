public import Model

/// What an accepted image is.
public struct ImageFacts: Sendable, Hashable {
    public let format: DiskFormat
    /// Size of the disk that a guest sees, in bytes; a multiple of 512.
    public let virtualSizeBytes: Int64

    public init(format: DiskFormat, virtualSizeBytes: Int64) {
        (self.format, self.virtualSizeBytes) = (format, virtualSizeBytes)
    }
}

/// Looks at an image's bytes as they stream past and says whether the file is what it claims to be, before any other
/// program opens it.
///
/// Keeps the first 64 KiB and the last 512 bytes, nothing else. Pure: no file is opened here.
public struct ImageInspector: Sendable {
    /// Headers and header extensions must end here.
    public static let headLimit = 65_536
    static let tailLimit = 512

    private var head: [UInt8] = []
    private var tail: [UInt8] = []
    /// How many bytes were consumed.
    public private(set) var bytesSeen: Int64 = 0

    public init() {}

    /// Takes the next bytes of the file, in order.
    public mutating func consume(_ bytes: [UInt8]) {
        guard !bytes.isEmpty else { return }
        bytesSeen += Int64(bytes.count)
        if head.count < Self.headLimit {
            head.append(contentsOf: bytes.prefix(Self.headLimit - head.count))
        }
        if bytes.count >= Self.tailLimit {
            tail = Array(bytes.suffix(Self.tailLimit))
        } else {
            tail.append(contentsOf: bytes)
            tail.removeFirst(max(0, tail.count - Self.tailLimit))
        }
    }

    /// Judges the first `headLimit` bytes of a qcow2 file of `fileBytes` that may stand on another file: which one is
    /// the caller's to judge.
    public static func checkOverlay(_ head: [UInt8], fileBytes: Int64) throws(ImageFormatError) {
        guard FileSignature(head: head, tail: []) == .qcow else {
            throw ImageFormatError(
                .otherFormat, claimed: .qcow2, "The file does not begin with the signature of qcow2.")
        }
        _ = try QCOW2Header(head, fileBytes: fileBytes, mayHaveBacking: true)
    }

    /// Judges the file, of which all `totalBytes` were consumed, as an image of the format `claimed`.
    public func finish(claimed: DiskFormat, totalBytes: Int64) throws(ImageFormatError) -> ImageFacts {
        guard totalBytes > 0 else {
            throw ImageFormatError(.empty, claimed: claimed, "The image, claimed to be \(claimed.rawValue), is empty.")
        }
        guard bytesSeen == totalBytes else {
            throw ImageFormatError(
                .truncated, claimed: claimed,
                "The image, claimed to be \(claimed.rawValue), was announced with \(totalBytes) bytes; \(bytesSeen) came."
            )
        }
        let found = FileSignature(head: head, tail: tail)
        switch claimed {
        case .raw:
            if let found {
                throw ImageFormatError(
                    .otherFormat, claimed: .raw,
                    "The image is claimed to be raw, but it is a raw that \(found.sentence).")
            }
            guard totalBytes <= .max - 511 else {
                throw ImageFormatError(
                    .malformedHeader, claimed: .raw, "The raw image has \(totalBytes) bytes, too many.")
            }
            return ImageFacts(format: .raw, virtualSizeBytes: (totalBytes + 511) / 512 * 512)
        case .qcow2:
            guard found == .qcow else {
                throw ImageFormatError(
                    .otherFormat, claimed: .qcow2,
                    "The image is claimed to be qcow2, but it "
                        + (found.map { "\($0.sentence)." } ?? "does not begin with the signature of qcow2."))
            }
            let header = try QCOW2Header(head, fileBytes: totalBytes)
            return ImageFacts(format: .qcow2, virtualSizeBytes: header.virtualSizeBytes)
        }
    }
}
