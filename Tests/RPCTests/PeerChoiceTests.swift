import Model
import Testing

@testable import RPC

@Suite("Which peer is asked")
struct PeerChoiceTests {
    private struct Fixed: RandomNumberGenerator {
        var state: UInt64 = 1
        mutating func next() -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return state
        }
    }

    @Test("Each is asked first in its turn, and all of them are in every order")
    func turns() {
        var generator = Fixed()
        var choice = PeerChoice(count: 3, isSpread: true, using: &generator)
        let now = ContinuousClock.now
        let orders = (0..<6).map { _ in choice.order(at: now) }
        for peer in 0..<3 { #expect(orders.count(where: { $0.first == peer }) == 2) }
        #expect(orders.allSatisfy { Set($0) == [0, 1, 2] })
        var fixed = PeerChoice(count: 3, isSpread: false, using: &generator)
        #expect((0..<3).allSatisfy { _ in fixed.order(at: now) == [0, 1, 2] })
        var single = PeerChoice(count: 1, isSpread: true, using: &generator)
        #expect(single.order(at: now) == [0])
        var none = PeerChoice(count: 0, isSpread: true, using: &generator)
        #expect(none.order(at: now) == [])
    }

    @Test("One that fails comes last, for longer each time, until it answers")
    func rests() {
        var generator = Fixed()
        var choice = PeerChoice(count: 3, isSpread: true, using: &generator)
        let start = ContinuousClock.now
        var longest = Duration.zero
        for failure in 1...8 {
            choice.failed(1, at: start, using: &generator)
            #expect(choice.order(at: start).last == 1)
            let bound = min(PeerChoice.rest.maxBackoff, PeerChoice.rest.initialBackoff * (1 << min(failure - 1, 5)))
            #expect(choice.order(at: start + bound / 2 - .milliseconds(1)).last == 1)
            #expect((0..<3).contains { _ in choice.order(at: start + bound).first == 1 }, "failure \(failure)")
            longest = max(longest, bound)
        }
        #expect(longest == PeerChoice.rest.maxBackoff)
        choice.failed(1, at: start, using: &generator)
        choice.answered(1)
        #expect((0..<3).contains { _ in choice.order(at: start).first == 1 })
        choice.failed(1, at: start, using: &generator)
        #expect(
            (0..<3).contains { _ in choice.order(at: start + PeerChoice.rest.initialBackoff).first == 1 },
            "it starts anew")
    }

    @Test("When all have failed all are tried, the one whose rest ends first before the others")
    func allFailed() {
        var generator = Fixed()
        var choice = PeerChoice(count: 3, isSpread: true, using: &generator)
        let start = ContinuousClock.now
        choice.failed(2, at: start, using: &generator)
        choice.failed(0, at: start + .seconds(2), using: &generator)
        choice.failed(1, at: start + .seconds(4), using: &generator)
        #expect(choice.order(at: start) == [2, 0, 1])
    }

    @Test("Many clients begin at different peers, and do not come back to one at one moment")
    func jitter() {
        var generator = Fixed()
        let start = ContinuousClock.now
        var firsts: [Int: Int] = [:]
        var back: Set<Int> = []
        for _ in 0..<300 {
            var choice = PeerChoice(count: 3, isSpread: true, using: &generator)
            firsts[choice.order(at: start)[0], default: 0] += 1
            choice.failed(0, at: start, using: &generator)
            let moment = (0...20).first { step in
                let now = start + .milliseconds(50 * step)
                var copy = choice
                return (0..<3).contains { _ in copy.order(at: now).first == 0 }
            }
            back.insert(moment ?? -1)
        }
        #expect(firsts.values.allSatisfy { $0 > 60 } && firsts.count == 3)
        #expect(back.count >= 8 && !back.contains(-1))
    }
}
