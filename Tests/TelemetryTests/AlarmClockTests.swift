import Testing

@testable import Telemetry

@Suite("Alarm clock")
struct AlarmClockTests {
    private let alarms = Alarms()
    private var clock: AlarmClock { AlarmClock(alarms: alarms) }

    @Test("A sleep lasts until its deadline")
    func lasts() async throws {
        let start = clock.now
        try await clock.sleep(for: .milliseconds(30))
        #expect(start.duration(to: clock.now) >= .milliseconds(30))
        #expect(alarms.load == (0, 0))
    }

    @Test("A deadline that has passed is no sleep")
    func past() async throws {
        try await clock.sleep(until: clock.now - .seconds(5))
        #expect(alarms.load.sleepers == 0)
    }

    @Test("No sleep ends before its deadline, whatever the order in which they began")
    func order() async throws {
        let (clock, start) = (clock, clock.now)
        let early = await withTaskGroup(of: Bool.self) { group in
            for place in [7, 2, 5, 0, 6, 1, 4, 3] {
                group.addTask {
                    let deadline = start + .milliseconds(50 + 20 * place)
                    return (try? await clock.sleep(until: deadline)) == nil || clock.now < deadline
                }
            }
            return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
        }
        #expect(early == 0)
        #expect(alarms.load == (0, 0))
    }

    @Test("A sleep that begins later and ends earlier does not wait for the other")
    func earlier() async throws {
        let clock = clock
        let long = Task { try await clock.sleep(for: .seconds(3_600)) }
        while alarms.load.sleepers == 0 { await Task.yield() }
        let start = clock.now
        try await clock.sleep(for: .milliseconds(10))
        #expect(start.duration(to: clock.now) < .seconds(60))
        long.cancel()
        await #expect(throws: CancellationError.self) { try await long.value }
    }

    @Test("A cancelled sleep ends at once, whether it was cancelled before or while it lasts")
    func cancelled() async throws {
        let clock = clock
        let before = Task {
            while !Task.isCancelled { await Task.yield() }
            try await clock.sleep(for: .seconds(3_600))
        }
        before.cancel()
        await #expect(throws: CancellationError.self) { try await before.value }
        let during = Task { try await clock.sleep(for: .seconds(3_600)) }
        while alarms.load.sleepers == 0 { await Task.yield() }
        during.cancel()
        await #expect(throws: CancellationError.self) { try await during.value }
        #expect(alarms.load.sleepers == 0)
    }

    @Test("Cancelled sleeps leave nothing behind, however many and however long")
    func leavesNothing() async throws {
        let clock = clock
        for _ in 0..<100 {
            await withTaskGroup(of: Void.self) { group in
                for seconds in 1...100 {
                    group.addTask { try? await clock.sleep(for: .seconds(60 * seconds)) }
                }
                group.cancelAll()
            }
        }
        #expect(alarms.load.sleepers == 0)
        #expect(alarms.load.deadlines <= 64)
    }

    @Test("Sleeps that go on are not lost when cancelled ones are swept away")
    func survivors() async throws {
        let clock = clock
        let woken = await withTaskGroup(of: Bool.self) { group in
            for number in 0..<1_000 {
                let isShort = number % 10 == 0
                group.addTask {
                    let sleep = Task { try await clock.sleep(for: isShort ? .milliseconds(200) : .seconds(3_600)) }
                    if !isShort { sleep.cancel() }
                    return (try? await sleep.value) != nil
                }
            }
            return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
        }
        #expect(woken == 100)
        #expect(alarms.load.sleepers == 0)
    }
}
