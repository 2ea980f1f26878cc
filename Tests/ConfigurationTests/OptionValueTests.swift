import Configuration
import Model
import Testing

private enum Color: String, ChoiceOption { case red, green }

@Suite("Option values")
struct OptionValueTests {
    @Test(
        "A duration is seconds or has a unit",
        arguments: [
            ("10", Duration.seconds(10), "10s"), ("0.25", .milliseconds(250), "250ms"),
            ("500ms", .milliseconds(500), "500ms"),
            ("5m", .seconds(300), "300s"), ("2h", .seconds(7_200), "7200s"), ("1d", .seconds(86_400), "86400s"),
            ("-1", .seconds(-1), "-1s"),
        ])
    func durations(text: String, value: Duration, usual: String) throws {
        #expect(try Duration.parse(text) == value)
        #expect(value.optionText == usual)
    }

    @Test("What is no duration is refused", arguments: ["", "ten", "5 parsecs", "5x", "nan", "inf", "1e300", "s"])
    func noDuration(text: String) {
        #expect(throws: OptionError(allowed: Duration.allowed)) { try Duration.parse(text) }
    }

    @Test(
        "A boolean has Nova's spellings",
        arguments: [
            ("true", true), ("Yes", true), ("ON", true), ("1", true), ("False", false), ("no", false), ("off", false),
            ("0", false),
        ])
    func booleans(text: String, value: Bool) throws {
        #expect(try Bool.parse(text) == value)
    }

    @Test("Numbers, lists, choices and absent values are read")
    func others() throws {
        #expect(try Int.parse("-7") == -7)
        #expect(throws: OptionError.self) { try Int.parse("7.5") }
        #expect(throws: OptionError.self) { try Double.parse("nan") }
        #expect(try [String].parse("a, b,,c ") == ["a", "b", "c"])
        #expect(try String?.parse("") == nil)
        #expect(try Int?.parse("5") == 5)
        #expect(try Color.parse("Red") == .red)
        #expect(throws: OptionError(allowed: "one of red, green")) { try Color.parse("blue") }
        #expect(throws: OptionError.self) { try Bool.parse("maybe") }
    }
}
