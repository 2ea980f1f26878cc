internal import Glibc
internal import HostTopology
internal import Model
internal import SQL
internal import SQLite

/// How many claims a second a host's tracker makes, for `deploy/bench claims`: each claim with its release, on a host with
/// a hundred other holders; in memory alone, and with the journal's transaction around each.
public enum ClaimBench {
    private static let holders = 100

    /// Prints the figures, a JSON object a line, or for people with `--table`. `--count N` is how many claims are made in
    /// memory (200,000); a hundredth of them go through a journal. Returns the exit code.
    public static func run(_ arguments: [String]) async -> Int32 {
        var (count, isTable) = (200_000, false)
        var rest = arguments[...]
        while let word = rest.popFirst() {
            switch word {
            case "--table": isTable = true
            case "--count":
                guard let number = rest.popFirst().flatMap({ Int($0) }), (100...100_000_000).contains(number) else {
                    return complain("--count takes a number from 100")
                }
                count = number
            default: return complain("there is no option \(word)")
            }
        }
        do {
            let memory = try inMemory(count)
            let journal = try await withJournal(max(10, count / 100))
            for (value, parameter) in [(memory, "none"), (journal, "file")] {
                print(
                    isTable
                        ? "claims.per_s  \(Int(value))  1/s  journal=\(parameter)"
                        : "{\"name\":\"claims.per_s\",\"params\":{\"journal\":\"\(parameter)\"},\"value\":\(Int(value)),\"unit\":\"1/s\"}"
                )
            }
            return 0
        } catch {
            return complain("\(error)")
        }
    }

    private static func complain(_ text: String) -> Int32 {
        let line = Array("apus-bench: \(text)\n".utf8)
        _ = write(2, line, line.count)
        return 2
    }

    private static func tracker() throws -> ResourceTracker {
        let tracker = ResourceTracker(
            ResourceLedger(
                total: Resources(vcpus: 128, memoryMiB: 1 << 20, diskGiB: 10_000), reserved: .zero,
                ratios: AllocationRatios(cpu: 16)))
        for number in 0..<holders { try tracker.claim(one, for: InstanceID("holder-\(number)")).keep() }
        return tracker
    }

    private static let one = Resources(vcpus: 1, memoryMiB: 512, diskGiB: 10)

    private static func inMemory(_ count: Int) throws -> Double {
        let (tracker, instance) = (try tracker(), InstanceID("one-more"))
        let start = ContinuousClock.now
        for _ in 0..<count { tracker.release(try tracker.claim(one, for: instance).keep()) }
        return Double(count) / (ContinuousClock.now - start).inSeconds
    }

    private static func withJournal(_ count: Int) async throws -> Double {
        let folder = "/tmp/apus-bench-\(getpid())"
        guard mkdir(folder, 0o700) == 0 else { throw Failure(.storage, "\(folder) cannot be made") }
        defer {
            for name in ["/agent.db", "/agent.db-wal", "/agent.db-shm", "/agent.db-turn"] { unlink(folder + name) }
            rmdir(folder)
        }
        let moment = Timestamp(microseconds: 1)
        let journal = try await Journal.open(.file(folder + "/agent.db"), now: { moment })
        let (tracker, instance) = (try tracker(), InstanceID("one-more"))
        let start = ContinuousClock.now
        for _ in 0..<count {
            let claim = try await journal.database.write { connection in
                let claim = try tracker.claim(one, for: instance).keep()
                try connection.insert(claim, now: moment)
                return claim
            }
            try await journal.database.write { try $0.forgetGuest(instance) }
            tracker.release(claim)
        }
        let rate = Double(count) / (ContinuousClock.now - start).inSeconds
        await journal.database.close()
        return rate
    }
}
