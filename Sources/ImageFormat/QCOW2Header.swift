internal import Model

/// A qcow2 header that passed every check; the fields are those of QEMU's `docs/interop/qcow2.txt`.
struct QCOW2Header {
    let virtualSizeBytes: Int64

    /// QEMU's own bounds of what it loads into memory.
    private static let largestL1Bytes: UInt64 = 32 << 20
    private static let largestRefcountTableBytes: UInt64 = 8 << 20

    /// Dirty, corrupt, external data, compression type, extended L2.
    private static let knownIncompatible: UInt64 = 0b1_1111

    /// Reads and judges the header of a file of `fileBytes`, of which `head` are the first bytes.
    init(_ head: [UInt8], fileBytes: Int64, mayHaveBacking: Bool = false) throws(ImageFormatError) {
        let reader = BigEndian(head)
        let version = try reader.word(4)
        guard version == 2 || version == 3 else {
            throw refusal(.unsupportedVersion, "The qcow2 image has version \(version); 2 and 3 are known.")
        }
        let extra = version == 3 ? try Extra(reader) : Extra()
        try Self.check(extra)

        let clusterBits = try reader.word(20)
        let leastClusterBits: UInt32 = extra.hasExtendedL2 ? 14 : 9
        guard (leastClusterBits...21).contains(clusterBits) else {
            throw malformed("cluster_bits is \(clusterBits); \(leastClusterBits) to 21 are allowed")
        }
        let cluster = UInt64(1) << UInt64(clusterBits)
        guard UInt64(extra.headerLength) <= cluster, extra.headerLength >= extra.leastLength,
            extra.headerLength.isMultiple(of: 8)
        else {
            throw malformed("the header's length is \(extra.headerLength), with clusters of \(cluster) bytes")
        }
        let (backingPlace, backingLength) = (try reader.long(8), try reader.word(16))
        guard mayHaveBacking || (backingPlace == 0 && backingLength == 0) else {
            throw refusal(.backingFile, "The qcow2 image names a backing file; only whole images are accepted.")
        }
        guard try reader.word(32) == 0 else { throw encrypted }
        let snapshots = try reader.word(60)
        guard snapshots == 0 else {
            throw refusal(.internalSnapshots, "The qcow2 image contains \(snapshots) internal snapshots.")
        }
        let size = try reader.long(24)
        guard size > 0, size <= UInt64(Int64.max), size.isMultiple(of: 512) else {
            throw malformed("the virtual size is \(size) bytes; a multiple of 512 below 8 EiB is needed")
        }
        try Self.checkTables(
            reader, virtualSize: size, cluster: cluster, entryBytes: extra.hasExtendedL2 ? 16 : 8,
            fileBytes: UInt64(fileBytes))
        try Self.checkExtensions(reader, from: Int(extra.headerLength), cluster: Int(cluster))
        virtualSizeBytes = Int64(size)
    }

    /// The fields which only version 3 has; the defaults are what version 2 means.
    private struct Extra {
        var incompatible: UInt64 = 0
        var refcountOrder: UInt32 = 4
        var headerLength: UInt32 = 72
        var leastLength: UInt32 = 72
        var compressionType: UInt8 = 0

        var hasExtendedL2: Bool { incompatible & 16 != 0 }

        init() {}

        init(_ reader: BigEndian) throws(ImageFormatError) {
            incompatible = try reader.long(72)
            refcountOrder = try reader.word(96)
            headerLength = try reader.word(100)
            leastLength = 104
            compressionType = headerLength > 104 ? try reader.byte(104) : 0
        }
    }

    private static func check(_ extra: Extra) throws(ImageFormatError) {
        let unknown = extra.incompatible & ~knownIncompatible
        guard unknown == 0 else {
            let bits = (0..<64).filter { unknown & (1 << UInt64($0)) != 0 }.map(String.init).joined(separator: ", ")
            throw refusal(
                .unknownFeature, "The qcow2 image needs features nobody here knows: incompatible bits \(bits).")
        }
        guard extra.incompatible & 4 == 0 else { throw externalData }
        guard extra.incompatible & 3 == 0 else {
            let mark = extra.incompatible & 2 != 0 ? "corrupt" : "not cleanly closed (dirty)"
            throw refusal(.inconsistent, "The qcow2 image is marked as \(mark).")
        }
        guard extra.refcountOrder <= 6 else {
            throw malformed("refcount_order is \(extra.refcountOrder); 0 to 6 are allowed")
        }
        // zlib is 0 and needs the bit clear, zstd is 1 and needs it set.
        guard extra.compressionType <= 1, (extra.incompatible & 8 != 0) == (extra.compressionType == 1) else {
            throw malformed("the compression type \(extra.compressionType) and its feature bit do not agree")
        }
    }

    private static func checkTables(
        _ reader: BigEndian, virtualSize: UInt64, cluster: UInt64, entryBytes: UInt64, fileBytes: UInt64
    ) throws(ImageFormatError) {
        let l1Entries = UInt64(try reader.word(36))
        let mappedByEntry = cluster * (cluster / entryBytes)
        let needed = (virtualSize - 1) / mappedByEntry + 1
        guard l1Entries >= needed, l1Entries * 8 <= largestL1Bytes else {
            throw malformed(
                "its L1 table has \(l1Entries) entries; the virtual size needs \(needed), and \(largestL1Bytes / 8) are allowed"
            )
        }
        try checkPlace("L1 table", at: try reader.long(40), bytes: l1Entries * 8, cluster, fileBytes)

        let refcountBytes = UInt64(try reader.word(56)) * cluster
        guard refcountBytes > 0, refcountBytes <= largestRefcountTableBytes else {
            throw malformed("its refcount table has \(refcountBytes) bytes; \(largestRefcountTableBytes) are allowed")
        }
        try checkPlace("refcount table", at: try reader.long(48), bytes: refcountBytes, cluster, fileBytes)
    }

    private static func checkPlace(
        _ what: String, at offset: UInt64, bytes: UInt64, _ cluster: UInt64, _ fileBytes: UInt64
    ) throws(ImageFormatError) {
        guard offset >= cluster, offset.isMultiple(of: cluster) else {
            throw malformed("its \(what) is at byte \(offset), not at a later cluster of \(cluster) bytes")
        }
        guard offset <= fileBytes, bytes <= fileBytes - offset else {
            throw refusal(
                .truncated,
                "The qcow2 image is truncated: its \(what) takes \(bytes) bytes at \(offset), the file has \(fileBytes)."
            )
        }
    }

    /// Walks the header extensions: they end with a zero type, or with the first cluster.
    private static func checkExtensions(_ reader: BigEndian, from start: Int, cluster: Int) throws(ImageFormatError) {
        let end = min(cluster, ImageInspector.headLimit)
        var offset = start
        while offset + 8 <= end {
            let type = try reader.word(offset)
            let length = Int(try reader.word(offset + 4))
            switch type {
            case 0: return
            case 0x4441_5441: throw externalData
            case 0x0537_BE77: throw encrypted
            default: break
            }
            guard length <= end - offset - 8 else {
                throw malformed("a header extension of \(length) bytes at \(offset) does not fit its cluster")
            }
            offset += 8 + (length + 7) / 8 * 8
        }
        guard end == cluster else {
            throw malformed("its header extensions take more than \(ImageInspector.headLimit) bytes")
        }
    }
}

private func refusal(_ reason: ImageFormatError.Reason, _ message: String) -> ImageFormatError {
    ImageFormatError(reason, claimed: .qcow2, message)
}

private func malformed(_ what: String) -> ImageFormatError {
    refusal(.malformedHeader, "The image is claimed to be qcow2, but \(what).")
}

private let encrypted = refusal(.encrypted, "The qcow2 image is encrypted.")

private let externalData = refusal(
    .externalDataFile, "The qcow2 image keeps its data in an external file; only whole images are accepted.")

/// Reads big-endian numbers; a read past the end is a truncated file.
private struct BigEndian {
    private let bytes: [UInt8]

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    func byte(_ offset: Int) throws(ImageFormatError) -> UInt8 { UInt8(try number(offset, 1)) }
    func word(_ offset: Int) throws(ImageFormatError) -> UInt32 { UInt32(try number(offset, 4)) }
    func long(_ offset: Int) throws(ImageFormatError) -> UInt64 { try number(offset, 8) }

    private func number(_ offset: Int, _ count: Int) throws(ImageFormatError) -> UInt64 {
        guard offset >= 0, offset <= bytes.count - count else {
            throw refusal(
                .truncated,
                "The qcow2 image is truncated: its header needs \(offset + count) bytes, the file has \(bytes.count).")
        }
        return bytes[offset..<offset + count].reduce(0) { $0 << 8 | UInt64($1) }
    }
}
