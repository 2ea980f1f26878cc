import HTTP
import Testing

@Suite("HTTP values", .timeLimit(.minutes(1)))
struct ValueTests {
    @Test("Field names compare without letter case, and one name may come several times")
    func fields() {
        var fields: HTTPFields = ["Content-Type": "text/plain", "X-A": "1", "x-a": "2", "X-B": "3"]
        #expect(fields["content-TYPE"] == "text/plain")
        #expect(fields.all("X-a") == ["1", "2"])
        fields["x-A"] = "9"
        #expect(fields.map { "\($0.name)=\($0.value)" } == ["Content-Type=text/plain", "X-A=9", "X-B=3"])
        fields.add("X-B", "4")
        #expect(fields.all("x-b") == ["3", "4"])
        fields["x-b"] = nil
        fields["New"] = "n"
        #expect(fields.map(\.name) == ["Content-Type", "X-A", "New"])
        #expect(fields["missing"] == nil)
    }

    @Test(
        "A query is read as clients write it",
        arguments: [
            ("", []), ("a=1", ["a=1"]), ("a=1&b=2&a=3", ["a=1", "b=2", "a=3"]), ("flag", ["flag="]),
            ("a=x%20y+z", ["a=x y z"]), ("a=b=c", ["a=b=c"]), ("&&a=1&", ["a=1"]), ("a=%zz%", ["a=%zz%"]),
            ("%C3%A9=%E2%82%AC", ["é=€"]), ("a=%ff", ["a=\u{FFFD}"]), ("=1", ["=1"]),
        ] as [(String, [String])])
    func query(text: String, expected: [String]) {
        #expect(QueryItems(parsing: text).items.map { "\($0.name)=\($0.value)" } == expected)
    }

    @Test("Percent-encoding and its reverse")
    func percent() {
        #expect(PercentEncoding.encode("a b/ü?") == "a%20b%2F%C3%BC%3F")
        #expect(PercentEncoding.encodePath("/a b/c") == "/a%20b/c")
        #expect(PercentEncoding.decode("a%20b%2F%C3%BC+") == "a b/ü+")
        #expect(PercentEncoding.decode("%2") == nil)
        #expect(PercentEncoding.decode("%C3") == nil)
    }

    @Test("A hand-made request is what the server would have made of it")
    func request() {
        let request = HTTPRequest(.get, "/a%20b?x=1&y=%20", headers: ["A": "b"], body: [1])
        #expect(request.path == "/a b")
        #expect(request.rawPath == "/a%20b")
        #expect(request.rawQuery == "x=1&y=%20")
        #expect(request.query["y"] == " ")
        #expect(request.bytes == [1])
        let other = HTTPRequest(method: .put, path: "/a b", query: ["q": "1"])
        #expect(other.rawPath == "/a%20b")
        #expect(other.query["q"] == "1")
    }

    @Test("Bytes as a source come in pieces and then end")
    func source() async throws {
        let source = RequestBody.bytes([1, 2, 3]).source
        #expect(try await source.next() == [1, 2, 3])
        #expect(try await source.next() == nil)
        let small = BytesSource([1, 2, 3], pieceSize: 2)
        #expect(await small.next() == [1, 2])
        #expect(await small.next() == [3])
        #expect(await small.next() == nil)
    }
}
