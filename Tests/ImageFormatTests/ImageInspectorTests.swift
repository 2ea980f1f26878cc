import ImageFormat
import Model
import Testing

@Suite("Image inspector")
struct ImageInspectorTests {
    private func inspect(
        _ bytes: [UInt8], as claimed: DiskFormat, chunk: Int = 4_096
    ) throws(ImageFormatError) -> ImageFacts {
        var inspector = ImageInspector()
        var offset = 0
        while offset < bytes.count {
            inspector.consume(Array(bytes[offset..<min(offset + chunk, bytes.count)]))
            offset += chunk
        }
        return try inspector.finish(claimed: claimed, totalBytes: Int64(bytes.count))
    }

    private func reason(_ bytes: [UInt8], as claimed: DiskFormat = .qcow2) -> ImageFormatError.Reason? {
        do {
            _ = try inspect(bytes, as: claimed)
            return nil
        } catch {
            return error.reason
        }
    }

    @Test("A whole qcow2 of version 2 or 3 is accepted with its virtual size", arguments: [2, 3] as [UInt32])
    func accepted(version: UInt32) throws {
        let facts = try inspect(SampleQCOW2(version: version).bytes, as: .qcow2)
        #expect(facts == ImageFacts(format: .qcow2, virtualSizeBytes: 1 << 30))
    }

    @Test("How the bytes are cut into chunks does not matter", arguments: [1, 7, 511, 512, 513, 1 << 20])
    func chunks(size: Int) throws {
        #expect(try inspect(SampleQCOW2().bytes, as: .qcow2, chunk: size).virtualSizeBytes == 1 << 30)
        var vhd = [UInt8](repeating: 0, count: 4_096)
        vhd.replaceSubrange(3_584..<3_592, with: "conectix".utf8)
        #expect(throws: ImageFormatError.self) { try inspect(vhd, as: .raw, chunk: size) }
    }

    @Test("zstd, extended L2, feature names and a short header are known")
    func knownFeatures() {
        #expect(reason(SampleQCOW2(incompatible: 8, compressionType: 1).bytes) == nil)
        #expect(reason(SampleQCOW2(l1Entries: 4, incompatible: 16, fileBytes: 0x30020).bytes) == nil)
        #expect(reason(SampleQCOW2(extensions: [(0x6803_F857, .init(repeating: 1, count: 384))]).bytes) == nil)
        #expect(reason(SampleQCOW2(headerLength: 104).bytes) == nil)
    }

    @Test("An overlay may name its backing file, and is checked like any other file for the rest", arguments: refused)
    func overlay(what: String, sample: SampleQCOW2, expected: ImageFormatError.Reason) throws {
        let bytes = sample.bytes
        let head = Array(bytes.prefix(ImageInspector.headLimit))
        if expected == .backingFile {
            try ImageInspector.checkOverlay(head, fileBytes: Int64(bytes.count))
        } else {
            let error = #expect(throws: ImageFormatError.self, "\(what)") {
                try ImageInspector.checkOverlay(head, fileBytes: Int64(bytes.count))
            }
            #expect(error?.reason == expected)
        }
    }

    private static let refused: [(String, SampleQCOW2, ImageFormatError.Reason)] = [
        ("a backing file", SampleQCOW2(backingOffset: 512, backingSize: 9), .backingFile),
        ("a backing file's offset alone", SampleQCOW2(backingOffset: 512), .backingFile),
        ("a backing file in version 2", SampleQCOW2(version: 2, backingOffset: 512, backingSize: 9), .backingFile),
        ("the bit of an external data file", SampleQCOW2(incompatible: 4), .externalDataFile),
        (
            "the name of an external data file", SampleQCOW2(extensions: [(0x4441_5441, Array("/etc/shadow".utf8))]),
            .externalDataFile
        ),
        (
            "the name of an external data file after another extension",
            SampleQCOW2(extensions: [(0x6803_F857, [1, 2, 3]), (0x4441_5441, [65])]), .externalDataFile
        ),
        ("an encryption method", SampleQCOW2(cryptMethod: 1), .encrypted),
        ("LUKS in it", SampleQCOW2(cryptMethod: 2), .encrypted),
        ("an encryption header", SampleQCOW2(extensions: [(0x0537_BE77, .init(repeating: 0, count: 16))]), .encrypted),
        ("internal snapshots", SampleQCOW2(snapshots: 1), .internalSnapshots),
        ("an unknown feature", SampleQCOW2(incompatible: 1 << 5), .unknownFeature),
        ("the last unknown feature", SampleQCOW2(incompatible: 1 << 63), .unknownFeature),
        ("the dirty bit", SampleQCOW2(incompatible: 1), .inconsistent),
        ("the corrupt bit", SampleQCOW2(incompatible: 2), .inconsistent),
        ("version 1", SampleQCOW2(version: 1), .unsupportedVersion),
        ("version 4", SampleQCOW2(version: 4), .unsupportedVersion),
        ("clusters too small", SampleQCOW2(clusterBits: 8), .malformedHeader),
        ("clusters too big", SampleQCOW2(clusterBits: 22), .malformedHeader),
        ("absurd clusters", SampleQCOW2(clusterBits: .max), .malformedHeader),
        ("small clusters with extended L2", SampleQCOW2(clusterBits: 13, incompatible: 16), .malformedHeader),
        ("a short header", SampleQCOW2(headerLength: 96), .malformedHeader),
        ("a header longer than its cluster", SampleQCOW2(headerLength: 65_544), .malformedHeader),
        ("a header of odd length", SampleQCOW2(headerLength: 107), .malformedHeader),
        ("an unknown compression", SampleQCOW2(incompatible: 8, compressionType: 2), .malformedHeader),
        ("a compression without its bit", SampleQCOW2(compressionType: 1), .malformedHeader),
        ("absurd refcounts", SampleQCOW2(refcountOrder: 7), .malformedHeader),
        ("no size", SampleQCOW2(virtualSize: 0), .malformedHeader),
        ("half a sector", SampleQCOW2(virtualSize: 1_000), .malformedHeader),
        ("8 EiB and more", SampleQCOW2(virtualSize: 1 << 63), .malformedHeader),
        ("an L1 table too short for the size", SampleQCOW2(l1Entries: 1), .malformedHeader),
        ("an absurd L1 table", SampleQCOW2(l1Entries: .max), .malformedHeader),
        ("an L1 table in the header", SampleQCOW2(l1Offset: 0), .malformedHeader),
        ("an L1 table between clusters", SampleQCOW2(l1Offset: 0x30008), .malformedHeader),
        ("an L1 table beyond the file", SampleQCOW2(l1Offset: 0x40000), .truncated),
        ("an L1 table at the end of everything", SampleQCOW2(l1Offset: 0xFFFF_FFFF_FFFF_0000), .truncated),
        ("no refcount table", SampleQCOW2(refcountClusters: 0), .malformedHeader),
        ("an absurd refcount table", SampleQCOW2(refcountClusters: .max), .malformedHeader),
        ("a refcount table beyond the file", SampleQCOW2(refcountOffset: 0x7FFF_0000), .truncated),
        (
            "an extension that does not end", SampleQCOW2(extensions: [(7, .init(repeating: 0, count: 70_000))]),
            .malformedHeader
        ),
        ("an end before its L1 table does", SampleQCOW2(fileBytes: 0x30008), .truncated),
        ("an end in the header", SampleQCOW2(fileBytes: 40), .truncated),
        ("nothing but the signature", SampleQCOW2(fileBytes: 4), .truncated),
    ]

    @Test("A qcow2 with anything but its own data is refused", arguments: refused)
    func refusal(what: String, sample: SampleQCOW2, expected: ImageFormatError.Reason) {
        #expect(reason(sample.bytes) == expected, "\(what)")
    }

    @Test("Any bytes are a raw image, its size rounded up to sectors", arguments: [(1, 512), (512, 512), (513, 1_024)])
    func raw(bytes: Int, size: Int64) throws {
        let facts = try inspect([UInt8](repeating: 0x42, count: bytes), as: .raw)
        #expect(facts == ImageFacts(format: .raw, virtualSizeBytes: size))
    }

    @Test(
        "A raw image that begins like another format is refused, and the text names it",
        arguments: [
            ("qcow2", 0, [0x51, 0x46, 0x49, 0xFB]), ("qed", 0, Array("QED\0".utf8)), ("vmdk", 0, Array("KDMV".utf8)),
            ("vmdk", 0, Array("# Disk DescriptorFile\n".utf8)), ("vhdx", 0, Array("vhdxfile".utf8)),
            ("vhd", 0, Array("conectix".utf8)), ("vdi", 64, [0x7F, 0x10, 0xDA, 0xBE]),
            ("luks", 0, [0x4C, 0x55, 0x4B, 0x53, 0xBA, 0xBE]),
        ] as [(String, Int, [UInt8])])
    func disguised(name: String, offset: Int, signature: [UInt8]) {
        let bytes = [UInt8](repeating: 0, count: offset) + signature + [UInt8](repeating: 0, count: 1_024)
        let error = #expect(throws: ImageFormatError.self) { try inspect(bytes, as: .raw) }
        #expect(error?.reason == .otherFormat)
        #expect(error?.message.contains("a raw that begins with the signature of \(name)") == true)
    }

    @Test("A raw image with the footer of vhd is refused")
    func footer() {
        var bytes = [UInt8](repeating: 0, count: 2_048)
        bytes.replaceSubrange(1_536..<1_544, with: "conectix".utf8)
        let error = #expect(throws: ImageFormatError.self) { try inspect(bytes, as: .raw) }
        #expect(
            error?.message == "The image is claimed to be raw, but it is a raw that ends with the signature of vhd.")
    }

    @Test("Claimed qcow2 and not: the text says what was found")
    func notQCOW2() {
        #expect(
            throws: ImageFormatError(
                .otherFormat, claimed: .qcow2,
                "The image is claimed to be qcow2, but it begins with the signature of vmdk.")
        ) { try inspect(Array("KDMV".utf8), as: .qcow2) }
        #expect(reason([UInt8](repeating: 0, count: 600)) == .otherFormat)
    }

    @Test("An empty file, or fewer bytes than announced, is refused", arguments: DiskFormat.allCases)
    func announced(format: DiskFormat) {
        #expect(reason([], as: format) == .empty)
        var inspector = ImageInspector()
        inspector.consume([1, 2, 3])
        let error = #expect(throws: ImageFormatError.self) { try inspector.finish(claimed: format, totalBytes: 4) }
        #expect(error?.reason == .truncated)
    }

    @Test("Random damage never crashes, and what is accepted has a size", arguments: [1, 2, 3, 4] as [UInt64])
    func fuzz(seed: UInt64) {
        var random = SplitMix(state: seed)
        let samples = [
            SampleQCOW2(), SampleQCOW2(version: 2), SampleQCOW2(clusterBits: 9, l1Offset: 0x400, refcountOffset: 0x200),
            SampleQCOW2(extensions: [(0x6803_F857, .init(repeating: 7, count: 96)), (0xE279_2ACA, [1])]),
        ].map { Array($0.bytes.prefix(1_024)) }
        for _ in 0..<2_000 {
            var bytes = samples[Int(random.next() % 4)]
            for _ in 0..<(1 + random.next() % 6) {
                bytes[Int(random.next() % 160)] = UInt8(truncatingIfNeeded: random.next() >> 20)
            }
            bytes.removeLast(Int(random.next() % 1_100) < 1_000 ? 0 : Int(random.next() % 1_024))
            var inspector = ImageInspector()
            inspector.consume(bytes)
            for format in DiskFormat.allCases {
                if let facts = try? inspector.finish(claimed: format, totalBytes: Int64(bytes.count)) {
                    #expect(facts.virtualSizeBytes > 0 && facts.virtualSizeBytes.isMultiple(of: 512), "seed \(seed)")
                }
            }
        }
    }
}

/// A small seeded generator.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }
}
