#if PostgreSQL
    import SQL
    import Testing

    @testable import PostgreSQL

    @Suite("Transactions that are run again")
    struct AttemptsTests {
        @Test("A conflict is bounded, its pauses grow, and the first of them changes how the next is run")
        func conflicts() {
            var attempts = Attempts(patience: .seconds(5))
            #expect(!attempts.hasLost)
            let pauses = (0..<30).map { _ in attempts.pause(after: .conflict, random: 0) }
            #expect(attempts.hasLost)
            #expect(pauses.compactMap(\.self).count == Attempts.conflictLimit)
            #expect(pauses[0] == .milliseconds(2) && pauses[1] == .milliseconds(4) && pauses[19] == .milliseconds(128))
        }

        @Test("A row that is there already is looked at once more")
        func duplicates() {
            var attempts = Attempts(patience: .seconds(5))
            #expect(attempts.pause(after: .duplicate, random: 0.5) == .zero)
            #expect(attempts.pause(after: .duplicate, random: 0.5) == nil)
        }

        @Test("A server that is gone is waited for as long as it was said", arguments: [0, 0.25, 0.999])
        func patience(random: Double) {
            var attempts = Attempts(patience: .seconds(5))
            var waited = Duration.zero
            while let pause = attempts.pause(after: .connectionLost, random: random) { waited += pause }
            #expect(waited >= .seconds(5) && waited < .seconds(6))
        }

        @Test(
            "The server's states are told apart",
            arguments: [
                ("40001", SQLError.Code.serialization), ("40P01", .serialization), ("40003", .outcomeUnknown),
                ("23505", .constraint(.unique)), ("23503", .constraint(.foreignKey)), ("23502", .constraint(.notNull)),
                ("23514", .constraint(.check)), ("23P01", .constraint(.other)), ("55P03", .busy), ("57014", .timeout),
                ("57P01", .connectionLost), ("08006", .connectionLost), ("53300", .connectionLost), ("53100", .full),
                ("25006", .readOnly), ("22021", .unstorable), ("XX001", .corrupt), ("3D000", .cannotOpen),
                ("28P01", .cannotOpen), ("42601", .misuse), ("25P02", .misuse), ("22003", .other("22003")),
            ])
        func states(state: String, code: SQLError.Code) {
            #expect(SQLError(state: state, message: "m", sql: nil).code == code)
        }

        @Test("A message about a value that does not fit stays behind: it repeats the value")
        func secrets() {
            let error = SQLError(state: "22P02", message: "invalid input: \"s3cret\"", sql: "SELECT ?")
            #expect(!error.description.contains("s3cret"))
            #expect(error.description.contains("22P02"))
        }
    }
#endif
