/// A disk image format that a program which probes would recognise by a file's first or last bytes.
struct FileSignature: Equatable {
    let name: String
    /// Recognised by a footer, not by the first bytes.
    let isAtEnd: Bool

    static let qcow = FileSignature(name: "qcow2")

    /// "begins with the signature of vmdk"
    var sentence: String { "\(isAtEnd ? "ends" : "begins") with the signature of \(name)" }

    private static let atBeginning: [(name: String, offset: Int, bytes: [UInt8])] = [
        ("qcow2", 0, [0x51, 0x46, 0x49, 0xFB]),
        ("qed", 0, [0x51, 0x45, 0x44, 0x00]),
        ("luks", 0, [0x4C, 0x55, 0x4B, 0x53, 0xBA, 0xBE]),
        ("vmdk", 0, Array("KDMV".utf8)),
        ("vmdk", 0, Array("COWD".utf8)),
        ("vmdk", 0, Array("# Disk DescriptorFile".utf8)),
        ("vhdx", 0, Array("vhdxfile".utf8)),
        ("vhd", 0, Array("conectix".utf8)),
        ("vdi", 0x40, [0x7F, 0x10, 0xDA, 0xBE]),
        ("parallels", 0, Array("WithoutFreeSpace".utf8)),
        ("parallels", 0, Array("WithouFreSpacExt".utf8)),
        ("bochs", 0, Array("Bochs Virtual HD Image".utf8)),
        ("cloop", 0, Array("#!/bin/sh\n#V2.0 Format".utf8)),
    ]

    /// Footers at the start of the last 512 bytes.
    private static let atEnd: [(name: String, bytes: [UInt8])] = [
        ("vhd", Array("conectix".utf8)),
        ("dmg", Array("koly".utf8)),
    ]

    private init(name: String, isAtEnd: Bool = false) { (self.name, self.isAtEnd) = (name, isAtEnd) }

    /// `nil` when nothing that is known begins or ends so.
    init?(head: [UInt8], tail: [UInt8]) {
        if let match = Self.atBeginning.first(where: { head.dropFirst($0.offset).starts(with: $0.bytes) }) {
            self.init(name: match.name)
        } else if tail.count == ImageInspector.tailLimit,
            let match = Self.atEnd.first(where: { tail.starts(with: $0.bytes) })
        {
            self.init(name: match.name, isAtEnd: true)
        } else {
            return nil
        }
    }
}
