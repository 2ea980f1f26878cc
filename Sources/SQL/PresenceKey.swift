/// A name as the number of a lock: FNV-1a, the same in every process and on every machine. Two names that meet in one
/// number each seem to live as long as the other does, which costs the time of a lease and nothing else.
public struct PresenceKey: Sendable, Hashable {
    public let value: UInt64

    public init(_ name: String) {
        value = name.utf8.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
    }
}
