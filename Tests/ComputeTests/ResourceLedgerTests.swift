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

    @Test(
        "A claim that does not fit names each short resource, what was asked and what is free",
        arguments: [
            (2, 4_097, 1, [ClaimError.Shortage(resource: "memory_mib", requested: 4_097, free: 4_096)]),
            (9, 1, 1, [.init(resource: "vcpus", requested: 9, free: 8)]),
            (1, 1, 101, [.init(resource: "disk_gib", requested: 101, free: 100)]),
            (
                9, 1, 101,
                [
                    .init(resource: "vcpus", requested: 9, free: 8),
                    .init(resource: "disk_gib", requested: 101, free: 100),
                ]
            ),
        ])
    func refusal(vcpus: Int, memory: Int, disk: Int, expected: [ClaimError.Shortage]) {
        var ledger = ledger()
        #expect(throws: ClaimError.insufficient(expected)) { try ledger.add(claim(vcpus, memory, disk)) }
        #expect(ledger.promised == .zero)
    }

    @Test("Ratios stretch what is left after the host's own share: used + requested <= (total - reserved) × ratio")
    func ratios() throws {
        var ledger = ledger(cpu: 4, memory: 1.5, reservedMemory: 512)
        #expect(ledger.limit == Resources(vcpus: 32, memoryMiB: 5_376, diskGiB: 100))
        try ledger.add(claim(32, 5_376, 100))
        #expect(throws: ClaimError.self) { try ledger.add(claim(1, 0, 0, "b")) }
        #expect(ledger.used == Resources(vcpus: 32, memoryMiB: 5_888, diskGiB: 100))
    }

    @Test("An instance holds one claim, and giving it back frees all of it")
    func once() throws {
        var ledger = ledger()
        try ledger.add(claim(1, 2, 3))
        #expect(throws: ClaimError.exists(ClaimID("claim-a"))) { try ledger.add(claim(1, 2, 3)) }
        ledger.remove(InstanceID("a"))
        #expect(ledger.promised == .zero)
        #expect(ledger.remove(InstanceID("a")) == nil)
    }

    @Test("Negative and absurd amounts are refused", arguments: [-1, Int.max, 1 << 41])
    func absurd(amount: Int) {
        var ledger = ledger()
        #expect(throws: ClaimError.self) { try ledger.add(claim(amount, 1, 1)) }
        #expect(throws: ClaimError.self) { try ledger.add(claim(1, amount, 1)) }
        #expect(ledger.claims.isEmpty)
    }

    @Test("A claim from the journal is taken up even where it no longer fits, and nothing more is promised then")
    func restored() {
        var ledger = ledger()
        ledger.restore(claim(20, 1, 1, "old"))
        #expect(ledger.promised.vcpus == 20)
        #expect(throws: ClaimError.insufficient([.init(resource: "vcpus", requested: 1, free: 0)])) {
            try ledger.add(claim(1, 1, 1, "new"))
        }
    }

    @Test("Of many claims at the same time only those that fit are granted")
    func concurrent() async {
        let tracker = ResourceTracker(ledger())
        let granted = await withTaskGroup(of: Bool.self) { group in
            for number in 0..<64 {
                group.addTask {
                    let resources = Resources(vcpus: 1, memoryMiB: 1, diskGiB: 1)
                    return (try? tracker.claim(resources, for: InstanceID("\(number)"))) != nil
                }
            }
            return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
        }
        #expect(granted == 8)
        #expect(tracker.snapshot.promised.vcpus == 8)
    }

    @Test("A late release of an old claim leaves the instance's new one alone")
    func lateRelease() throws {
        let tracker = ResourceTracker(ledger())
        let old = try tracker.claim(Resources(vcpus: 1, memoryMiB: 1, diskGiB: 1), for: InstanceID("a"))
        let new = try tracker.claim(Resources(vcpus: 2, memoryMiB: 2, diskGiB: 2), for: InstanceID("a"))
        tracker.release(old)
        #expect(tracker.snapshot.claims == [InstanceID("a"): new])
        tracker.release(new)
        #expect(tracker.snapshot.promised == .zero)
    }
}
