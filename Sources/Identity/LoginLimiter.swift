internal import Crypto
internal import Model
internal import Synchronization

/// Slows down guessing: per (user, address), after 5 failures the next attempt has to wait 1 s, then 2 s, up to 60 s.
///
/// Waiting costs the server nothing: an attempt before its time is refused without a hash. The table is bounded; when it
/// is full the entry whose last failure is the oldest makes room.
final class LoginLimiter: Sendable {
    static let freeFailures = 5
    static let longestDelay = 60

    private struct Entry: Sendable {
        var failures = 0
        var lastFailure: Timestamp
        var lockedUntil: Timestamp
    }

    private let capacity: Int
    private let forgetAfter = Duration.seconds(900)
    private let entries = Mutex<[String: Entry]>([:])

    init(capacity: Int = 10_000) { self.capacity = capacity }

    /// The table's key: of one length, however long the names are that come from outside.
    static func key(user: String, address: String) -> String {
        Hex.encode(digest(.sha256, of: Array("\(user.utf8.count):\(user)\(address)".utf8)))
    }

    /// Seconds that the key has to wait, rounded up; `nil` when it may try now.
    func delay(_ key: String, now: Timestamp) -> Int? {
        entries.withLock { entries in
            guard let entry = entries[key], entry.lockedUntil > now else { return nil }
            return Int(entry.lockedUntil.since(now).inSeconds.rounded(.up))
        }
    }

    /// Counts a failure. Returns the seconds to wait from now on, or `nil`.
    func failed(_ key: String, now: Timestamp) -> Int? {
        entries.withLock { entries in
            var entry = entries[key] ?? Entry(lastFailure: now, lockedUntil: now)
            if now.since(entry.lastFailure) > forgetAfter { entry.failures = 0 }
            entry.failures += 1
            entry.lastFailure = now
            let excess = entry.failures - Self.freeFailures
            let seconds = excess < 0 ? nil : min(Self.longestDelay, 1 << min(excess, 6))
            if let seconds { entry.lockedUntil = now + .seconds(seconds) }
            if entries[key] == nil, entries.count >= capacity { makeRoom(&entries, now: now) }
            entries[key] = entry
            return seconds
        }
    }

    /// Forgets the failures after a success.
    func succeeded(_ key: String) {
        _ = entries.withLock { $0.removeValue(forKey: key) }
    }

    var count: Int { entries.withLock { $0.count } }

    private func makeRoom(_ entries: inout [String: Entry], now: Timestamp) {
        // A tenth at once, so that a full table is not searched at every failure.
        let old = entries.sorted { $0.value.lastFailure < $1.value.lastFailure }.prefix(max(1, capacity / 10))
        for (key, _) in old { entries[key] = nil }
    }
}
