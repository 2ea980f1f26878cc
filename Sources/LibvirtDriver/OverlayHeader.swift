internal import ImageFormat
internal import Model

/// What the header of an overlay says. Only for files that `disk.info` calls qcow2: in those a guest cannot write there.
struct OverlayHeader: Sendable, Hashable {
    let virtualSizeBytes: Int64
    let backing: String?

    private static let signature: [UInt8] = [0x51, 0x46, 0x49, 0xFB]
    /// Where headers end at the latest: the smallest cluster with room for the longest name.
    private static let limit = 4_096

    /// The header of a qcow2 file that another host has given. Throws for what no disk of ours is: with data elsewhere,
    /// encrypted, with snapshots inside, damaged, or of a kind that is not known. Blocks.
    static func inspect(_ path: String) throws(Failure) -> OverlayHeader {
        guard let header = try read(path), let size = Files.size(path),
            let bytes = try Files.read(path, limit: ImageInspector.headLimit), bytes.count >= 104
        else { throw Failure(.storage, "\(path) is no qcow2 file") }
        do throws(ImageFormatError) {
            try ImageInspector.checkOverlay(bytes, fileBytes: size)
        } catch {
            throw Failure(.storage, "\(path) is not taken from another host: \(error.message)")
        }
        func number(_ range: Range<Int>) -> UInt64 { bytes[range].reduce(0) { $0 << 8 | UInt64($1) } }
        let version = number(4..<8)
        // Those that are known, too: no disk of ours has any.
        let features = version == 3 ? number(72..<80) : 0
        guard version == 2 || version == 3, features == 0, number(32..<36) == 0, number(60..<64) == 0,
            header.virtualSizeBytes > 0
        else { throw Failure(.storage, "\(path) is a qcow2 file of a kind that is not taken from other hosts") }
        return header
    }

    /// The header of the file; `nil` when there is no such file, or it is not a qcow2 file. Blocks.
    static func read(_ path: String) throws(Failure) -> OverlayHeader? {
        guard let bytes = try Files.read(path, limit: limit), bytes.count >= 32, bytes.starts(with: signature) else {
            return nil
        }
        func number(_ range: Range<Int>) -> UInt64 { bytes[range].reduce(0) { $0 << 8 | UInt64($1) } }
        let (offset, length) = (number(8..<16), number(16..<20))
        var backing: String?
        if offset != 0 {
            guard length <= 1_023, offset <= UInt64(bytes.count), offset + length <= UInt64(bytes.count) else {
                throw Failure(.storage, "the header of \(path) names its backing file beyond its first bytes")
            }
            backing = String(decoding: bytes[Int(offset)..<Int(offset + length)], as: UTF8.self)
        }
        return OverlayHeader(virtualSizeBytes: Int64(clamping: number(24..<32)), backing: backing)
    }
}
