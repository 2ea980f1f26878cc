#if PostgreSQL
    import Model
    import PostgreSQLServer
    import SQL
    import Synchronization
    import Testing

    @testable import PostgreSQL

    @Suite("The server's clock")
    struct ServerClockTests {
        /// A machine whose clocks a test moves.
        private final class Machine: Sendable {
            private let passed = Mutex(Duration.zero)
            private let start = ContinuousClock.now
            let wall: Timestamp

            init(_ wall: Timestamp) { self.wall = wall }

            var instant: ContinuousClock.Instant { start + passed.withLock { $0 } }
            func pass(_ duration: Duration) { passed.withLock { $0 += duration } }

            func clock() -> ServerClock { ServerClock(instant: { self.instant }, machine: { self.wall }) }
        }

        private let server = Timestamp(seconds: 1_000_000)

        @Test("It is this machine's until the server has answered, and then the server's, however wrong this one's is")
        func answer() {
            let machine = Machine(server + .seconds(300))
            let clock = machine.clock()
            #expect(clock.now() == server + .seconds(300))
            clock.note(server.microseconds, askedAt: machine.instant)
            #expect(clock.now() == server)
            machine.pass(.seconds(7))
            #expect(clock.now() == server + .seconds(7))
        }

        @Test("Two machines whose clocks are five minutes apart agree on when a lease is over")
        func leases() {
            let machines = [Machine(server - .seconds(150)), Machine(server + .seconds(150))]
            let clocks = machines.map { $0.clock() }
            for (machine, clock) in zip(machines, clocks) {
                clock.note(server.microseconds, askedAt: machine.instant)
            }
            let until = clocks[0].now() + .seconds(15)
            for machine in machines { machine.pass(.seconds(15) - .microseconds(1)) }
            #expect(clocks.allSatisfy { $0.now() < until })
            for machine in machines { machine.pass(.microseconds(1)) }
            #expect(clocks.allSatisfy { $0.now() == until })
        }

        @Test("The answer is of the middle of the way there and back")
        func way() {
            let machine = Machine(server)
            let clock = machine.clock()
            let asked = machine.instant
            machine.pass(.milliseconds(200))
            clock.note(server.microseconds, askedAt: asked)
            #expect(clock.now() == server + .milliseconds(100))
        }

        @Test("A slow answer is taken when there is no other, and does not replace a better one")
        func slow() {
            let machine = Machine(server)
            let clock = machine.clock()
            var asked = machine.instant
            machine.pass(.seconds(2))
            clock.note(server.microseconds, askedAt: asked)
            #expect(clock.now() == server + .seconds(1))
            asked = machine.instant
            machine.pass(.milliseconds(251))
            clock.note(server.microseconds + 60_000_000, askedAt: asked)
            #expect(clock.now() == server + .milliseconds(1_251))
            asked = machine.instant
            machine.pass(.milliseconds(250))
            clock.note(server.microseconds + 60_000_000, askedAt: asked)
            #expect(clock.now() == server + .seconds(60) + .milliseconds(125))
        }

        @Test(
            "A database tells the time of its server, as far as that is from this machine's", arguments: [-300, 300])
        func database(offset: Int) async throws {
            let server = try await PostgreSQLServer.shared()
            let url = try await server.makeDatabase()
            try await server.setClock(of: url, by: offset)
            let database = try await PostgreSQLDatabase.open(url)
            let difference = database.now().since(ServerClock().now() + .seconds(offset))
            #expect(difference > .seconds(-20) && difference < .seconds(20))
            await database.close()
        }
    }
#endif
