internal import Model
internal import Synchronization

/// Instances that were read a moment ago, by the very text of their records: lists are asked for again and again, and most
/// of their cost is the reading of records that have not changed. What has changed has another text, so that nothing here is
/// ever out of date.
final class ReadInstances: Sendable {
    /// 8 MiB at most, as records are.
    private static let limit = 2_000
    /// A record that is longer is read each time: it has the user's data in it.
    private static let longest = 4_096

    private let known = Mutex<[String: Instance]>([:])

    func decode(_ text: String) throws -> Instance {
        if let instance = known.withLock({ $0[text] }) { return instance }
        let instance = try Record.decode(Instance.self, text)
        guard text.utf8.count <= Self.longest else { return instance }
        known.withLock { known in
            if known.count >= Self.limit { known.removeAll(keepingCapacity: true) }
            known[text] = instance
        }
        return instance
    }
}
