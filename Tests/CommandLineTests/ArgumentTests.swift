import Testing

@testable import CommandLine

@Suite("Arguments")
struct ArgumentTests {
    private static let options = [
        OptionSpec(name: "json", help: ""),
        OptionSpec(name: "flavor", value: "F", help: ""),
        OptionSpec(name: "property", value: "K=V", help: "", isRepeated: true),
        OptionSpec(name: "lines", value: "N", help: ""),
    ]
    private static let server = [ArgumentSpec(name: "SERVER", help: "")]

    private func parse(
        _ words: [String], arguments: [ArgumentSpec] = Self.server
    ) throws(CommandError) -> Invocation {
        try Invocation(words, options: Self.options, arguments: arguments)
    }

    @Test("Options stand anywhere, with a blank or an equals sign, and -- ends them")
    func order() throws {
        let found = try parse(["--flavor=m1", "--json", "--property", "a=b", "--property=c=d", "--", "--odd"])
        #expect(found.has("json"))
        #expect(found.value("flavor") == "m1")
        #expect(found.all("property") == ["a=b", "c=d"])
        #expect(found.arguments == ["--odd"])
    }

    @Test(
        "What cannot be understood is named, with the nearest name where there is one",
        arguments: [
            (["s", "--jsn"], "There is no option --jsn. Did you mean --json?"),
            (["s", "--zzz"], "There is no option --zzz."),
            (["s", "-j"], "There is no option -j."),
            (["s", "--flavor"], "--flavor needs a value."),
            (["s", "--json=yes"], "--json takes no value."),
            (["s", "--flavor", "a", "--flavor", "b"], "--flavor is given twice."),
            ([], "SERVER is missing."),
            (["s", "t"], "'t' is one argument too many."),
        ])
    func refusals(words: [String], sentence: String) {
        #expect(throws: CommandError.usage(sentence)) { _ = try parse(words) }
    }

    @Test("A number outside its range is refused with the range")
    func numbers() throws {
        #expect(try parse(["s", "--lines", "7"]).number("lines", in: 1...9) == 7)
        #expect(try parse(["s"]).number("lines", in: 1...9) == nil)
        for text in ["0", "10", "x", ""] {
            #expect(throws: CommandError.usage("--lines takes a number from 1 to 9, not '\(text)'.")) {
                _ = try parse(["s", "--lines", text]).number("lines", in: 1...9)
            }
        }
    }

    @Test(
        "The distance counts swapped neighbours once",
        arguments: [
            ("server", "server", 0), ("sevrer", "server", 1), ("sever", "server", 1), ("", "abc", 3), ("a", "b", 1),
        ])
    func distance(left: String, right: String, expected: Int) {
        #expect(editDistance(left, right) == expected)
        #expect(editDistance(right, left) == expected)
    }
}

@Suite("Commands")
struct CommandTests {
    private static let tree = Command.group(
        "apus", "A cloud.",
        [
            .group(
                "server", "Servers.",
                [
                    Command(
                        name: "show", summary: "Show one.",
                        arguments: [ArgumentSpec(name: "SERVER", help: "Name or id.")],
                        options: [OptionSpec(name: "json", help: "JSON.")]
                    ) { invocation, terminal in
                        if invocation.arguments[0] == "none" {
                            throw CommandError.failure("There is no server 'none'.")
                        }
                        terminal.print("shown \(invocation.arguments[0])")
                        return 0
                    }
                ])
        ])

    @Test(
        "Exit codes: 0 done, 1 failed, 2 not understood",
        arguments: [
            (["server", "show", "a"], 0, "shown a\n", ""),
            (["server", "show", "none"], 1, "", "There is no server 'none'.\n"),
            (["server", "show"], 2, "", "SERVER is missing.\nTry: apus server show --help\n"),
            (
                ["sevrer"], 2, "",
                "There is no command 'sevrer' in 'apus'. Did you mean apus server?\nTry: apus --help\n"
            ),
            (["server", "--jso"], 2, "", "There is no option '--jso' in 'apus server'.\nTry: apus server --help\n"),
        ] as [([String], Int32, String, String)])
    func exitCodes(words: [String], code: Int32, out: String, err: String) async {
        let transcript = Transcript()
        #expect(await Self.tree.execute(words, transcript.terminal) == code)
        #expect(transcript.out == out)
        #expect(transcript.err == err)
    }

    @Test("Help is there for every command of the program, names its options, and goes to standard output")
    func help() async {
        var pending: [([String], Command)] = [([], ApusProgram.commands)]
        var seen = 0
        while let (path, command) = pending.popLast() {
            let transcript = Transcript()
            #expect(await ApusProgram.run(path + ["--help"], transcript.terminal) == 0)
            #expect(transcript.out.hasPrefix(command.summary))
            for option in command.options { #expect(transcript.out.contains("--\(option.name)")) }
            for child in command.children {
                #expect(transcript.out.contains("  \(child.name) "))
                pending.append((path + [child.name], child))
            }
            seen += 1
        }
        #expect(seen > 20)
    }
}
