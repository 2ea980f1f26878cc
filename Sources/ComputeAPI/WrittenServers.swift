internal import Model
internal import Synchronization

/// Servers as lists have written them a moment ago. Whoever watches a cloud asks for the same list again and again, and most
/// of its servers have not changed.
final class WrittenServers: Sendable {
    /// All that a server's form depends on beside the server and its host.
    struct Reader: Hashable {
        var base: String
        var minor: Int
        var isAdmin: Bool
        var showsHostFacts: Bool
        var showsHostStatus: Bool
        var showsExtraSpecs: Bool
    }

    struct Entry {
        var server: Instance
        var zone: String
        var hostStatus: String
        var json: [UInt8]
    }

    /// Of all readers together, about 2 KiB each.
    private static let limit = 4_000

    private let known = Mutex<(entries: [Reader: [InstanceID: Entry]], count: Int)>(([:], 0))

    func entries(for reader: Reader) -> [InstanceID: Entry] { known.withLock { $0.entries[reader] ?? [:] } }

    func note(_ entries: [Entry], for reader: Reader) {
        guard !entries.isEmpty else { return }
        known.withLock { known in
            if known.count + entries.count > Self.limit { known = ([:], 0) }
            var own = known.entries[reader] ?? [:]
            known.count -= own.count
            for entry in entries.prefix(Self.limit) { own[entry.server.id] = entry }
            known.count += own.count
            known.entries[reader] = own
        }
    }
}
