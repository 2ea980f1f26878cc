import Testing

@testable import ComputeAPI

@Suite("Regular expressions of clients")
struct PatternMatcherTests {
    @Test(
        "The usual patterns match as people expect",
        arguments: [
            ("web", "my-web-1", true), ("^web", "my-web", false), ("^web$", "web", true), ("^web$", "web1", false),
            ("w.b", "wab", true), ("we*b", "wb", true), ("we+b", "wb", false), ("we?b", "web", true),
            ("[a-c]x", "bx", true), ("[^a-c]x", "bx", false), ("[^a-c]x", "dx", true), (#"\d+$"#, "vm42", true),
            (#"a\.b"#, "a.b", true), (#"a\.b"#, "axb", false), ("(ab|cd)+e", "abcde", true), ("a|b", "xbx", true),
            ("", "anything", true), ("ö.*₡", "köln ₡", true), ("[]a]", "]", true), ("[a-]", "-", true),
            (#"[\d_]+x"#, "1_x", true), ("^10\\.0", "10.0.0.1", true), ("a$b", "ab", false), ("(?:x)y", "xy", true),
        ])
    func matches(pattern: String, text: String, expected: Bool) throws {
        #expect(try PatternMatcher(pattern).matches(text) == expected)
    }

    @Test(
        "What is not understood is refused, not guessed",
        arguments: [
            "(", ")", "[", "*a", "a**", "a{2}", #"\1"#, #"\b"#, "(?=a)", "a+?", "[b-a]", "\\", "[[:alpha:]]",
            String(repeating: "a", count: 256), String(repeating: "(", count: 20),
        ])
    func refused(pattern: String) {
        #expect(throws: PatternMatcher.Malformed.self) { try PatternMatcher(pattern) }
    }

    @Test(
        "Patterns that make backtracking matchers hang are matched in one pass",
        arguments: ["(a*)*b", "(a|a)*b", "(a+)+$"])
    func hostile(pattern: String) throws {
        let text = String(repeating: "a", count: 20_000) + "c"
        #expect(try PatternMatcher(pattern).matches(text) == false)
    }
}
