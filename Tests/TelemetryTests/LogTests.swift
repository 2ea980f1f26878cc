import Model
import Testing

@testable import Telemetry

@Suite("Log lines")
struct LogTests {
    private func line(_ fields: [(String, String)], requestID: String? = nil) -> LogLine {
        LogLine(
            time: Timestamp(seconds: 0), level: .notice, label: "agent", message: "claim refused",
            requestID: requestID, fields: fields)
    }

    @Test("Each format carries level, part, message, fields and request id")
    func formats() {
        let made = line([("short", "512"), ("name", "two words")], requestID: "req-1")
        #expect(
            made.text(.text)
                == "1970-01-01T00:00:00.000000Z NOTICE agent: claim refused short=512 name=\"two words\" request_id=req-1"
        )
        #expect(made.text(.journald) == "<5>agent: claim refused short=512 name=\"two words\" request_id=req-1")
        #expect(
            made.text(.json)
                == #"{"time":"1970-01-01T00:00:00.000000Z","level":"notice","label":"agent","message":"claim refused","#
                + #""request_id":"req-1","fields":{"short":"512","name":"two words"}}"#)
    }

    @Test(
        "A hostile value cannot forge a second line or another field",
        arguments: [
            ("a\nERROR forged", #"v="a\nERROR forged""#), ("x y=z", #"v="x y=z""#), ("", #"v="""#),
            ("\u{1B}[2J", "v=\"\\u001b[2J\""), ("q\"q", #"v="q\"q""#), ("\u{2028}", "v=\"\\u2028\""),
        ])
    func hostile(value: String, expected: String) {
        #expect(line([("v", value)]).text(.journald) == "<5>agent: claim refused \(expected)")
    }

    @Test("A value is cut at 4 KiB")
    func cut() {
        let text = line([("v", String(repeating: "x", count: 100_000))]).text(.text)
        #expect(text.utf8.count < LogLine.longestValue + 200)
        #expect(text.hasSuffix("…\""))
    }

    @Test(
        "Values say what they are without help",
        arguments: [
            (Duration.milliseconds(1_500) as any LogValue, "1.5s"), (InstanceID("i-1"), "i-1"),
            (Optional<Int>.none, "-"),
            (Optional("x"), "x"), ([1, 2], "1,2"), (Failure(.timeout, "slow"), "timeout: slow"), (true, "true"),
        ])
    func values(value: any LogValue, expected: String) {
        #expect(value.logText == expected)
    }

    @Test("Who observes sees each line that is written, and none that is below the minimum")
    func observers() async {
        let id = RequestScope.makeID()
        let (stream, sink) = AsyncStream.makeStream(of: String.self)
        LogSystem.observe { line in
            if line.contains(id.rawValue) { sink.yield(line) }
        }
        Logger("test").warning("seen", ["id": id.rawValue])
        #expect(!LogSystem.isEnabled(.trace))
        Logger("test").trace("not seen", ["id": id.rawValue])
        sink.finish()
        let lines = await stream.reduce(into: []) { $0.append($1) }
        #expect(lines.count == 1 && lines.first?.hasSuffix("WARNING test: seen id=\(id.rawValue)") == true)
    }

    @Test(
        "Levels are read by name", arguments: [("WARN", LogLevel.warning), ("debug", .debug), ("Critical", .critical)])
    func levels(name: String, expected: LogLevel) {
        #expect(LogLevel(name: name) == expected)
        #expect(LogLevel(name: "loud") == nil)
    }

    @Test("A request id is a fresh uuid, and a caller's is taken only in that form")
    func requestIDs() {
        let made = RequestScope.makeID()
        #expect(RequestScope.accept(made.rawValue) == made)
        #expect(made != RequestScope.makeID())
        #expect(RequestScope.accept("req-1") == nil)
        #expect(RequestScope.accept(made.rawValue.replacing("-", with: "_")) == nil)
        #expect(RequestScope.accept(made.rawValue + "\n") == nil)
    }
}
