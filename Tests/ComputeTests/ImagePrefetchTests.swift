import Model
import RPC
import Synchronization
import Telemetry
import Testing

@testable import Compute

@Suite("Images cached before they are needed", .timeLimit(.minutes(2)))
struct ImagePrefetchTests {
    /// Wakes at once as often as it is told, then never, unless cancelled.
    private final class CountingClock: Clock, Sendable {
        typealias Instant = ContinuousClock.Instant
        let short: Mutex<Int>
        var now: Instant { .now }
        var minimumResolution: Duration { .nanoseconds(1) }

        init(short: Int) { self.short = Mutex(short) }

        func sleep(until deadline: Instant, tolerance: Duration?) async throws {
            let isShort = short.withLock { short in
                short -= 1
                return short >= 0
            }
            guard !isShort else { return }
            try await AlarmClock().sleep(for: .seconds(86_400))
        }
    }

    private static func order(_ name: String) -> CacheImage.Params {
        let image = ImageReference(
            id: ImageID(name), format: .raw, sizeBytes: 1, virtualSizeBytes: 1, sha512: "digest of \(name)")
        return .init(host: HostName("host1"), task: TaskID("t"), image: image)
    }

    @Test("An agent fetches an image once however many ask, by the ticket of the task, and keeps it")
    func once() async throws {
        let bench = try Bench()
        try await bench.run { agent in
            let params = CacheImage.Params(host: HostName("host1"), task: TaskID("task1"), image: .test)
            async let first = agent.client.call(CacheImage.self, params)
            async let second = agent.client.call(CacheImage.self, params)
            #expect(try await first.isCached)
            #expect(try await second.isCached)
            #expect(try await agent.client.call(CacheImage.self, params).isCached)
            #expect(agent.conductor.heard.downloads == 1)
            #expect(agent.driver.host.state.images == [ImageReference.test.sha512])
            // A guest finds it there.
            try await agent.built(.test())
            #expect(agent.conductor.heard.downloads == 1)
            var other = params
            other.host = HostName("host2")
            await #expect(throws: Failure.self) { try await agent.client.call(CacheImage.self, other) }
        }
    }

    @Test("Why an image cannot be fetched is told, and the next question tries again")
    func failure() async throws {
        let bench = try Bench()
        try await bench.run { agent in
            let params = CacheImage.Params(host: HostName("host1"), task: TaskID("task1"), image: .test)
            agent.conductor.script { $0.imageStatus = 404 }
            do {
                _ = try await agent.client.call(CacheImage.self, params)
                Issue.record("an image that is gone was cached")
            } catch let failure as Failure {
                #expect(failure.kind == .imageUnacceptable && failure.message.contains("is gone"))
            }
            agent.conductor.script { $0.imageStatus = 200 }
            #expect(try await agent.client.call(CacheImage.self, params).isCached)
        }
    }

    @Test("Who asks is not kept waiting for long; the fetch goes on, and the next question learns its end")
    func patience() async throws {
        let (gate, opener) = AsyncStream.makeStream(of: Void.self)
        let fetched = Mutex<[ImageID]>([])
        let prefetch = ImagePrefetch(clock: CountingClock(short: 1)) { order in
            for await _ in gate {}
            fetched.withLock { $0.append(order.image.id) }
        }
        let running = Task { await prefetch.run() }
        #expect(try await prefetch.ask(Self.order("a")) == false)
        async let again = prefetch.ask(Self.order("a"))
        opener.finish()
        #expect(try await again)
        // Twice when the first fetch ended before the second question came.
        #expect(Set(fetched.withLock { $0 }) == [ImageID("a")])
        running.cancel()
        await running.value
        await #expect(throws: Failure.self) { try await prefetch.ask(Self.order("b")) }
    }

    @Test("More than the limit is refused, to be asked for later; who waits at the end is told")
    func limit() async throws {
        let prefetch = ImagePrefetch(clock: CountingClock(short: ImagePrefetch.limit)) { _ in
            for await _ in AsyncStream<Void>.makeStream().stream {}
            throw CancellationError()
        }
        let running = Task { await prefetch.run() }
        for number in 0..<ImagePrefetch.limit {
            #expect(try await prefetch.ask(Self.order("\(number)")) == false)
        }
        do {
            _ = try await prefetch.ask(Self.order("one more"))
            Issue.record("one more than the limit was taken")
        } catch let failure as Failure {
            #expect(failure.kind == .conflict && failure.isRetriable)
        }
        let waiting = Task { try await prefetch.ask(Self.order("0")) }
        running.cancel()
        await running.value
        let end = await waiting.result
        #expect(throws: Failure.self) { try end.get() }
    }
}
