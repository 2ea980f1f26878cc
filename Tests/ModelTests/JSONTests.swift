import Model
import Testing

private func parse(_ text: String) throws(JSONError) -> JSON { try JSON(parsing: Array(text.utf8)) }

@Suite("JSON")
struct JSONTests {
    @Test(
        "A value is read as what it was written as",
        arguments: [
            ("null", JSON.null), (" true ", .bool(true)), ("false", .bool(false)), ("0", .integer(0)),
            ("-12", .integer(-12)), ("9223372036854775807", .integer(.max)), ("-9223372036854775808", .integer(.min)),
            ("1.5", .number(1.5)), ("1e2", .number(100)), ("-0.25E-1", .number(-0.025)), ("\"a\"", .string("a")),
            ("[]", .array([])), ("[1,\t\"b\"\r\n,null]", [1, "b", nil]), ("{}", .object([:])),
            ("{\"a\" : {\"b\":[true]}}", ["a": ["b": [true]]]),
        ] as [(String, JSON)])
    func reading(text: String, expected: JSON) throws {
        #expect(try parse(text) == expected)
    }

    @Test("An integer beyond 64 bits becomes a number, not an error and not a wrapped value")
    func largeInteger() throws {
        #expect(try parse("9223372036854775808") == .number(9_223_372_036_854_775_808))
        #expect(try parse("-99999999999999999999").int == nil)
    }

    @Test(
        "Escapes are decoded, surrogate pairs joined",
        arguments: [
            (#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{c}\n\r\t"), (#""\u0041\u00e9""#, "Aé"),
            (#""x\ud83d\ude00y""#, "x😀y"),
            (#""\u0000""#, "\0"), (#""ä€😀""#, "ä€😀"),
        ])
    func escapes(text: String, expected: String) throws {
        #expect(try parse(text).text == expected)
    }

    @Test("Of members with the same name the last one wins")
    func duplicates() throws {
        #expect(try parse(#"{"a":1,"a":2}"#) == ["a": 2])
    }

    @Test(
        "What is not JSON is refused with the place where it goes wrong",
        arguments: [
            ("", JSONError(.unexpectedEnd, offset: 0)), ("  ", JSONError(.unexpectedEnd, offset: 2)),
            ("nul", JSONError(.unexpectedEnd, offset: 3)), ("nulL", JSONError(.unexpectedByte, offset: 3)),
            ("{} x", JSONError(.trailingBytes, offset: 3)), ("1 2", JSONError(.trailingBytes, offset: 2)),
            ("[1,]", JSONError(.unexpectedByte, offset: 3)), ("[1 2]", JSONError(.unexpectedByte, offset: 3)),
            ("{\"a\":1,}", JSONError(.unexpectedByte, offset: 7)), ("{a:1}", JSONError(.unexpectedByte, offset: 1)),
            ("{\"a\" 1}", JSONError(.unexpectedByte, offset: 5)), ("{\"a\":1", JSONError(.unexpectedEnd, offset: 6)),
            ("[", JSONError(.unexpectedEnd, offset: 1)), ("'a'", JSONError(.unexpectedByte, offset: 0)),
            ("\"a", JSONError(.unexpectedEnd, offset: 2)), ("\"a\nb\"", JSONError(.controlCharacter, offset: 2)),
            ("\"\\n\u{1}\"", JSONError(.controlCharacter, offset: 3)),
            ("\"\\x\"", JSONError(.invalidEscape, offset: 1)), ("\"\\u00g0\"", JSONError(.invalidEscape, offset: 5)),
            ("\"\\u00", JSONError(.unexpectedEnd, offset: 5)), ("\"\\", JSONError(.unexpectedEnd, offset: 2)),
            ("01", JSONError(.unexpectedByte, offset: 1)), ("-", JSONError(.unexpectedEnd, offset: 1)),
            ("1.", JSONError(.unexpectedEnd, offset: 2)), (".5", JSONError(.unexpectedByte, offset: 0)),
            ("1e+", JSONError(.unexpectedEnd, offset: 3)), ("+1", JSONError(.unexpectedByte, offset: 0)),
            ("NaN", JSONError(.unexpectedByte, offset: 0)), ("Infinity", JSONError(.unexpectedByte, offset: 0)),
            ("0x10", JSONError(.trailingBytes, offset: 1)), ("1e400", JSONError(.numberOutOfRange, offset: 0)),
            ("[1]//", JSONError(.trailingBytes, offset: 3)), ("\u{FEFF}{}", JSONError(.unexpectedByte, offset: 0)),
        ])
    func refusals(text: String, expected: JSONError) {
        #expect(throws: expected) { try parse(text) }
    }

    @Test(
        "Half of a surrogate pair is refused",
        arguments: [#""\ud800""#, #""\udc00""#, #""\ud800\n""#, #""\ud800\u0041""#, #""\ud83dx""#, #""\udc00\ud800""#])
    func loneSurrogates(text: String) {
        #expect(throws: JSONError(.loneSurrogate, offset: 1)) { try parse(text) }
    }

    @Test(
        "Bytes that are not UTF-8 are refused",
        arguments: [[0xFF], [0xC3], [0xC0, 0xAF], [0xED, 0xA0, 0x80], [0xF5, 0x80, 0x80, 0x80], [0x5C, 0x6E, 0x80]]
            as [[UInt8]])
    func invalidUTF8(bytes: [UInt8]) {
        #expect(throws: JSONError(.invalidUTF8, offset: 1)) { try JSON(parsing: [0x22] + bytes + [0x22]) }
    }

    @Test("Nesting is bounded at 64")
    func depth() throws {
        func nested(_ depth: Int) -> String {
            String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
        }
        _ = try parse(nested(64))
        #expect(throws: JSONError(.tooDeep, offset: 64)) { try parse(nested(65)) }
        #expect(throws: JSONError(.tooDeep, offset: 64)) { try parse(String(repeating: "[", count: 1_000_000)) }
        #expect(throws: JSONError(.tooDeep, offset: 320)) { try parse(String(repeating: #"{"a":"#, count: 100_000)) }
    }

    @Test("A number of a million digits is a number or out of range, and nothing worse")
    func hugeNumbers() throws {
        #expect(throws: JSONError(.numberOutOfRange, offset: 0)) {
            try parse(String(repeating: "9", count: 1_000_000))
        }
        #expect(try parse("0." + String(repeating: "3", count: 100_000)).double != nil)
    }

    @Test("Accessors answer only for their own kind")
    func accessors() throws {
        let value = try parse(#"{"s":"x","i":3,"d":1.0,"b":true,"n":null,"l":[10]}"#)
        #expect(value["s"]?.text == "x")
        #expect(value["i"]?.int == 3)
        #expect(value["i"]?.double == 3)
        #expect(value["d"]?.int == nil)
        #expect(value["b"]?.boolean == true)
        #expect(value["b"]?.int == nil)
        #expect(value["n"]?.isNull == true)
        #expect(value["l"]?[0] == 10)
        #expect(value["l"]?[1] == nil)
        #expect(value["l"]?.list?.count == 1)
        #expect(value["missing"] == nil)
        #expect(value.members?.count == 6)
        #expect(value.text == nil)
    }
}
