import GuestHardware
import HostTopology
import Model
import Testing

@testable import Compute

@Suite("What a host promises")
struct ResourceLedgerTests {
    private func ledger(cpu: Double = 1, memory: Double = 1, reservedMemory: Int = 0) -> ResourceLedger {
        ResourceLedger(
            total: Resources(vcpus: 8, memoryMiB: 4_096, diskGiB: 100),
            reserved: Resources(vcpus: 0, memoryMiB: reservedMemory, diskGiB: 0),
            ratios: AllocationRatios(cpu: cpu, memory: memory, disk: 1))
    }

    private func claim(_ vcpus: Int, _ memoryMiB: Int, _ diskGiB: Int, _ instance: String = "a") -> Claim {
        Claim(
            id: ClaimID("claim-" + instance), instance: InstanceID(instance),
            resources: Resources(vcpus: vcpus, memoryMiB: memoryMiB, diskGiB: diskGiB))
    }

    private func add(_ ledger: inout ResourceLedger, _ claim: Claim) throws(ClaimError) {
        try ledger.add(claim.id, for: claim.instance, claim.resources)
    }

    @Test(
        "A claim that does not fit names each short resource, what was asked and what is free",
        arguments: [
            (
                2, 4_097, 1,
                [ClaimError.Shortage(resource: "memory_mib", requested: 4_097, free: 4_096, total: 4_096, limit: 4_096)]
            ),
            (9, 1, 1, [.init(resource: "vcpus", requested: 9, free: 8, total: 8, limit: 8)]),
            (1, 1, 101, [.init(resource: "disk_gib", requested: 101, free: 100, total: 100, limit: 100)]),
            (
                9, 1, 101,
                [
                    .init(resource: "vcpus", requested: 9, free: 8, total: 8, limit: 8),
                    .init(resource: "disk_gib", requested: 101, free: 100, total: 100, limit: 100),
                ]
            ),
        ])
    func refusal(vcpus: Int, memory: Int, disk: Int, expected: [ClaimError.Shortage]) {
        var ledger = ledger()
        #expect(throws: ClaimError.insufficient(expected)) { try add(&ledger, claim(vcpus, memory, disk)) }
        #expect(ledger.promised == .zero)
    }

    @Test("Ratios stretch what is left after the host's own share: used + requested <= (total - reserved) × ratio")
    func ratios() throws {
        var ledger = ledger(cpu: 4, memory: 1.5, reservedMemory: 512)
        #expect(ledger.limit == Resources(vcpus: 32, memoryMiB: 5_376, diskGiB: 100))
        try add(&ledger, claim(32, 5_376, 100))
        #expect(throws: ClaimError.self) { try add(&ledger, claim(1, 0, 0, "b")) }
        #expect(ledger.used == Resources(vcpus: 32, memoryMiB: 5_888, diskGiB: 100))
    }

    @Test("An instance holds one claim, and giving it back frees all of it")
    func once() throws {
        var ledger = ledger()
        try add(&ledger, claim(1, 2, 3))
        #expect(throws: ClaimError.exists(ClaimID("claim-a"))) { try add(&ledger, claim(1, 2, 3)) }
        ledger.remove(InstanceID("a"))
        #expect(ledger.promised == .zero)
        #expect(ledger.remove(InstanceID("a")) == nil)
    }

    @Test("Negative and absurd amounts are refused", arguments: [-1, Int.max, 1 << 41])
    func absurd(amount: Int) {
        var ledger = ledger()
        #expect(throws: ClaimError.self) { try add(&ledger, claim(amount, 1, 1)) }
        #expect(throws: ClaimError.self) { try add(&ledger, claim(1, amount, 1)) }
        #expect(ledger.claims.isEmpty)
    }

    @Test("A claim from the journal is taken up even where it no longer fits, and nothing more is promised then")
    func restored() {
        var ledger = ledger()
        ledger.restore(claim(20, 1, 1, "old"))
        #expect(ledger.promised.vcpus == 20)
        #expect(throws: ClaimError.insufficient([.init(resource: "vcpus", requested: 1, free: 0, total: 8, limit: 8)]))
        {
            try add(&ledger, claim(1, 1, 1, "new"))
        }
    }

    @Test("Of many claims at the same time only those that fit are granted")
    func concurrent() async {
        let tracker = ResourceTracker(ledger())
        let granted = await withTaskGroup(of: Bool.self) { group in
            for number in 0..<64 {
                group.addTask {
                    let resources = Resources(vcpus: 1, memoryMiB: 1, diskGiB: 1)
                    return (try? tracker.claim(resources, for: InstanceID("\(number)")).keep()) != nil
                }
            }
            return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
        }
        #expect(granted == 8)
        #expect(tracker.snapshot.promised.vcpus == 8)
    }

    @Test("A claim that nobody keeps is given back when it goes out of sight, also by an error on the way")
    func leaks() throws {
        struct Interrupted: Error {}
        let tracker = ResourceTracker(ledger())
        let size = Resources(vcpus: 3, memoryMiB: 1, diskGiB: 1)
        func lost() throws {
            let promise = try tracker.claim(size, for: InstanceID("a"))
            #expect(tracker.snapshot.promised == size)
            // What a transaction does that does not come about.
            throw promise.claim.resources == size ? Interrupted() : Failure(.internalError, "another claim")
        }
        #expect(throws: Interrupted.self) { try lost() }
        #expect(tracker.snapshot.promised == .zero)
        let kept = try tracker.claim(size, for: InstanceID("b")).keep()
        #expect(tracker.snapshot.claims == [InstanceID("b"): kept])
    }

    @Test("A late release of an old claim leaves the instance's new one alone")
    func lateRelease() throws {
        let tracker = ResourceTracker(ledger())
        let old = try tracker.claim(Resources(vcpus: 1, memoryMiB: 1, diskGiB: 1), for: InstanceID("a")).keep()
        let new = try tracker.claim(Resources(vcpus: 2, memoryMiB: 2, diskGiB: 2), for: InstanceID("a")).keep()
        tracker.release(old)
        #expect(tracker.snapshot.claims == [InstanceID("a"): new])
        tracker.release(new)
        #expect(tracker.snapshot.promised == .zero)
    }

    @Test(
        "However claims come, move, settle, are dropped, end and are read again, what is promised is their sum and within the limit",
        arguments: 1...20)
    func random(seed: UInt64) throws {
        var generator = Generator(seed: seed)
        var ledger = ledger(cpu: 2, reservedMemory: 512)
        ledger.topology = .twoCells
        ledger.guestOverheadMiB = 16
        var (residences, moves): ([InstanceID: Claim], [InstanceID: Claim]) = ([:], [:])
        let pinned = try Self.pinned()
        for step in 0..<400 {
            let instance = InstanceID("i\(Int.random(in: 0..<20, using: &generator))")
            let migration = Claim.Purpose.move(MigrationID("m\(step)"))
            switch Int.random(in: 0..<12, using: &generator) {
            case 0..<7:
                let purpose = Bool.random(using: &generator) ? .residence : migration
                let isPinned = Bool.random(using: &generator)
                let asked = Resources(
                    vcpus: isPinned ? 0 : Int.random(in: 1...4, using: &generator),
                    memoryMiB: isPinned ? 256 : Int.random(in: 1...1_024, using: &generator), diskGiB: 1)
                do throws(ClaimError) {
                    let claim = try ledger.add(
                        ClaimID("c\(step)"), for: instance, asked, isPinned ? pinned : nil, purpose: purpose)
                    #expect(claim.resources.memoryMiB == asked.memoryMiB + 16)
                    #expect((claim.isMove ? moves : residences)[instance] == nil)
                    if claim.isMove { moves[instance] = claim } else { residences[instance] = claim }
                } catch {
                    switch error {
                    case .exists: #expect((purpose == .residence ? residences : moves)[instance] != nil)
                    case .insufficient(let shortages):
                        #expect(!shortages.isEmpty && shortages.allSatisfy { $0.requested > $0.free })
                    case .invalid, .unknownAlias: Issue.record("nothing invalid was asked for")
                    }
                }
            case 7..<8:
                let released = ledger.remove(instance)
                #expect(released == residences.removeValue(forKey: instance))
            case 8..<9:
                let dropped = ledger.removeMove(of: instance)
                #expect(dropped == moves.removeValue(forKey: instance))
            case 9..<11:
                guard let move = moves.removeValue(forKey: instance) else { continue }
                let outcomes = [ledger.settle(move), ledger.settle(move)]
                #expect(outcomes == [true, false])
                residences[instance] = ledger.claims[instance]
                #expect(residences[instance]?.id == move.id && residences[instance]?.isMove == false)
            default:
                // A restart: the memory is made of the journal.
                ledger = ResourceLedger(
                    total: ledger.total, reserved: ledger.reserved, ratios: ledger.ratios, topology: ledger.topology,
                    guestOverheadMiB: 16, claims: Array(residences.values) + moves.values)
            }
            let all = Array(residences.values) + moves.values
            #expect(ledger.claims == residences && ledger.moves == moves)
            #expect(ledger.promised == all.reduce(.zero) { $0 + $1.resources })
            let room = ledger.limit - ledger.promised
            #expect(room.vcpus >= 0 && room.memoryMiB >= 0 && room.diskGiB >= 0)
            let own = all.compactMap(\.placement).flatMap { Array($0.dedicatedCPUs.numbers) }
            #expect(Set(own).count == own.count && Set(own).isSubset(of: [2, 3, 6, 7]))
        }
    }

    private static func pinned() throws -> TopologyRequest {
        try #require(
            try GuestHardware(
                flavor: Flavor(
                    id: FlavorID("1"), name: "m", vcpus: 2, memoryMiB: 256, rootGiB: 1,
                    extraSpecs: ["hw:cpu_policy": "dedicated"]), imageProperties: [:]
            ).topology)
    }

    @Test("A resize on its own host holds both sizes until it is settled, and either way gives back all of the other")
    func resize() throws {
        let (small, large) = (
            Resources(vcpus: 2, memoryMiB: 1_024, diskGiB: 10), Resources(vcpus: 4, memoryMiB: 2_048, diskGiB: 20)
        )
        let (instance, purpose) = (InstanceID("a"), Claim.Purpose.move(MigrationID("m")))
        for isConfirmed in [true, false] {
            let tracker = ResourceTracker(ledger())
            try tracker.claim(small, for: instance).keep()
            let move = try tracker.claim(large, for: instance, purpose: purpose).keep()
            #expect(tracker.snapshot.promised == small + large)
            if isConfirmed { tracker.settle(move) } else { tracker.release(move) }
            #expect(tracker.snapshot.promised == (isConfirmed ? large : small))
            // A message that comes twice changes nothing.
            if isConfirmed { tracker.settle(move) } else { tracker.release(move) }
            #expect(tracker.snapshot.promised == (isConfirmed ? large : small))
        }
    }

    @Test("A move that does not fit beside the residence is refused, and leaves the residence alone")
    func crowdedMove() throws {
        let tracker = ResourceTracker(ledger())
        let instance = InstanceID("a")
        try tracker.claim(Resources(vcpus: 5, memoryMiB: 1, diskGiB: 1), for: instance).keep()
        let error = #expect(throws: ClaimError.self) {
            try tracker.claim(
                Resources(vcpus: 4, memoryMiB: 1, diskGiB: 1), for: instance, purpose: .move(MigrationID("m"))
            ).keep()
        }
        #expect(error?.failure.message == "vcpus: 4 requested, 3 free of 8")
        #expect(tracker.snapshot.promised.vcpus == 5)
    }

    @Test("QEMU's own memory is part of each claim, and its refusal says so in its amounts")
    func overhead() throws {
        var ledger = ledger()
        ledger.guestOverheadMiB = 64
        try add(&ledger, claim(1, 4_032, 1))
        #expect(ledger.used.memoryMiB == 4_096)
        #expect(
            throws: ClaimError.insufficient([
                .init(resource: "memory_mib", requested: 65, free: 0, total: 4_096, limit: 4_096)
            ])
        ) { try add(&ledger, claim(1, 1, 1, "b")) }
    }

    @Test("A refusal says what is short of the cells, too, and in one line")
    func cells() throws {
        var ledger = ledger()
        let wanted = try Self.pinned()
        let asked = Resources(vcpus: 0, memoryMiB: 5_000, diskGiB: 1)
        ledger.topology = .twoCells
        for name in ["a", "b"] {
            try ledger.add(ClaimID(name), for: InstanceID(name), Resources(vcpus: 0, memoryMiB: 1, diskGiB: 1), wanted)
        }
        #expect(ledger.cells?.map(\.socket) == [0, 1])
        let error = #expect(throws: ClaimError.self) {
            try ledger.add(ClaimID("c"), for: InstanceID("c"), asked, wanted)
        }
        #expect(
            error?.failure.message
                == "memory_mib: 5000 requested, 4094 free of 4096; dedicated_cpus: 2 requested, 0 free of 2")
    }
}

extension HostTopology {
    /// Two cells of four processors, of which the last two are dedicated.
    static let twoCells = HostTopology(
        cells: [(0, 0..<4), (1, 4..<8)].map { id, cpus in
            HostCell(
                id: id, memoryMiB: 2_048, cpus: CPUSet(Set(cpus)), cores: cpus.map { CPUSet([$0]) }, pages: [],
                socket: id)
        }, shared: CPUSet([0, 1, 4, 5]), dedicated: CPUSet([2, 3, 6, 7]))
}

private struct Generator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 | 1 }

    mutating func next() -> UInt64 {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return state
    }
}
