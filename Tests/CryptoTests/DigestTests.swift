import Crypto
import Testing

@Suite("Digests and encodings")
struct DigestTests {
    @Test(
        "Digests match the published vectors",
        arguments: [
            (HashAlgorithm.md5, "900150983cd24fb0d6963f7d28e17f72"),
            (.sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                .sha512,
                "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
                    + "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
            ),
        ])
    func vectors(algorithm: HashAlgorithm, expected: String) {
        #expect(Hex.encode(digest(algorithm, of: Array("abc".utf8))) == expected)
        var pieces = Digest(algorithm)
        pieces.update([])
        pieces.update(Array("a".utf8))
        pieces.update(Array("xbc".utf8)[1...])
        #expect(Hex.encode(pieces.finish()) == expected)
        #expect(algorithm.length * 2 == expected.utf8.count)
    }

    @Test("HMAC-SHA256 matches RFC 4231, case 2")
    func mac() {
        let mac = hmacSHA256(key: Array("Jefe".utf8), Array("what do ya want for nothing?".utf8))
        #expect(Hex.encode(mac) == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
    }

    @Test("Random bytes and uuids do not repeat")
    func randomness() {
        #expect(randomBytes(32) != randomBytes(32))
        #expect(randomBytes(0).isEmpty)
        let uuid = makeUUID()
        #expect(uuid.wholeMatch(of: /[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}/) != nil)
        #expect(uuid != makeUUID())
    }

    @Test(
        "Comparison tells equal from different",
        arguments: [
            ([], [], true), ([1], [1], true), ([1], [2], false), ([1], [1, 2], false),
        ] as [([UInt8], [UInt8], Bool)])
    func comparison(a: [UInt8], b: [UInt8], isEqual: Bool) {
        #expect(constantTimeEquals(a, b) == isEqual)
    }

    @Test(
        "Base64 matches RFC 4648 both ways",
        arguments: [
            ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ])
    func base64(plain: String, encoded: String) {
        let bytes = Array(plain.utf8)
        #expect(Base64.encode(bytes) == encoded)
        #expect(Base64.decode(encoded) == bytes)
        #expect(Base64.encodeURL(bytes) == encoded.filter { $0 != "=" })
        #expect(Base64.decodeURL(Base64.encodeURL(bytes)) == bytes)
    }

    @Test(
        "What is not strict base64 is refused",
        arguments: ["Zg", "Zg=", "Zh==", "Z===", "====", "Zm9v\n", "Zm-v", "Zg==Zg=="])
    func notBase64(text: String) {
        #expect(Base64.decode(text) == nil)
    }

    @Test("Every byte survives both alphabets and hexadecimal")
    func allBytes() {
        let bytes = (0...255).map { UInt8($0) }
        #expect(Base64.decode(Base64.encode(bytes)) == bytes)
        #expect(Base64.decodeURL(Base64.encodeURL(bytes)) == bytes)
        #expect(Hex.decode(Hex.encode(bytes)) == bytes)
        #expect(Hex.decode("0aFF") == [10, 255])
        #expect(Hex.decode("0") == nil)
        #expect(Hex.decode("zz") == nil)
    }
}
