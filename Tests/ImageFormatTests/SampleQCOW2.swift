import Testing

/// A qcow2 file's bytes, valid until a test says otherwise.
struct SampleQCOW2 {
    var version: UInt32 = 3
    var backingOffset: UInt64 = 0
    var backingSize: UInt32 = 0
    var clusterBits: UInt32 = 16
    var virtualSize: UInt64 = 1 << 30
    var cryptMethod: UInt32 = 0
    var l1Entries: UInt32 = 2
    var l1Offset: UInt64 = 0x30000
    var refcountOffset: UInt64 = 0x10000
    var refcountClusters: UInt32 = 1
    var snapshots: UInt32 = 0
    var incompatible: UInt64 = 0
    var refcountOrder: UInt32 = 4
    var headerLength: UInt32 = 112
    var compressionType: UInt8 = 0
    var extensions: [(type: UInt32, bytes: [UInt8])] = []
    var fileBytes = 0x30010

    var bytes: [UInt8] {
        var out: [UInt8] = [0x51, 0x46, 0x49, 0xFB]
        func add<T: FixedWidthInteger>(_ value: T) { withUnsafeBytes(of: value.bigEndian) { out += $0 } }
        add(version)
        add(backingOffset)
        add(backingSize)
        add(clusterBits)
        add(virtualSize)
        add(cryptMethod)
        add(l1Entries)
        add(l1Offset)
        add(refcountOffset)
        add(refcountClusters)
        add(snapshots)
        add(UInt64(0))
        if version >= 3 {
            add(incompatible)
            add(UInt64(0))
            add(UInt64(0))
            add(refcountOrder)
            add(headerLength)
            add(compressionType)
            out += [UInt8](repeating: 0, count: 7)
        }
        for part in extensions {
            add(part.type)
            add(UInt32(part.bytes.count))
            out += part.bytes
            out += [UInt8](repeating: 0, count: (8 - part.bytes.count % 8) % 8)
        }
        out += [UInt8](repeating: 0, count: max(0, fileBytes - out.count))
        return Array(out.prefix(fileBytes))
    }
}

extension SampleQCOW2: CustomTestStringConvertible {
    var testDescription: String { "qcow2 of version \(version)" }
}
