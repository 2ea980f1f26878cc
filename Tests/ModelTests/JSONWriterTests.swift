import Model
import Testing

@Suite("JSON writer")
struct JSONWriterTests {
    private func written(_ body: (inout JSONWriter) -> Void) -> String {
        var writer = JSONWriter(capacity: 16)
        body(&writer)
        return String(decoding: writer.finish(), as: UTF8.self)
    }

    @Test("Members come in the order written, commas where they belong")
    func order() {
        let text = written {
            $0.object {
                $0.member("z", "1")
                $0.object("empty") { _ in }
                $0.array("list") {
                    $0.integer(1)
                    $0.array { _ in }
                    $0.object { $0.member("k", nil as String?) }
                    $0.bool(false)
                }
                $0.member("a", 2)
                $0.key("raw")
                $0.raw(Array("[7]".utf8))
                $0.member("d", 0.5)
            }
        }
        #expect(text == #"{"z":"1","empty":{},"list":[1,[],{"k":null},false],"a":2,"raw":[7],"d":0.5}"#)
    }

    @Test(
        "Strings are escaped where they must be and nowhere else",
        arguments: [
            ("plain", #""plain""#), ("", #""""#), ("a\"b\\c/", #""a\"b\\c/""#), ("\n\r\t\u{8}\u{c}", #""\n\r\t\b\f""#),
            ("\u{0}\u{1f}", #""\u0000\u001f""#), ("é😀\u{7f}", "\"é😀\u{7f}\""), ("\u{1}x\u{1}", #""\u0001x\u0001""#),
        ])
    func escaping(value: String, expected: String) {
        #expect(written { $0.string(value) } == expected)
    }

    @Test("A key is escaped too")
    func keys() {
        #expect(written { $0.object { $0.member("a\"", 1) } } == #"{"a\"":1}"#)
    }

    @Test("Numbers that JSON cannot hold become null", arguments: [Double.infinity, -.infinity, .nan])
    func nonFinite(value: Double) {
        #expect(written { $0.number(value) } == "null")
    }

    @Test("Integers of every width are written in full")
    func integers() {
        let text = written {
            $0.array {
                $0.integer(Int64.min)
                $0.integer(UInt64.max)
                $0.integer(UInt8(7))
            }
        }
        #expect(text == "[-9223372036854775808,18446744073709551615,7]")
    }

    @Test("What is serialized reads back equal, members sorted")
    func roundTrip() throws {
        let value: JSON = [
            "b": [1, 2.5, "x\u{0}\"", true, nil, ["k": []]], "a": -3, "big": 1e300, "small": 1e-300,
        ]
        let bytes = value.serialized()
        #expect(try JSON(parsing: bytes) == value)
        #expect(String(decoding: bytes, as: UTF8.self).hasPrefix(#"{"a":-3,"b":[1,2.5,"#))
    }
}
