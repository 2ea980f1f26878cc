internal import Model
internal import Synchronization

/// What the driver remembers of domains, so that a look at one costs no XML: whether it is ours, and its MACs. An
/// entry goes when an event says that the definition changed, all of them when events may have been missed.
final class DomainDirectory: Sendable {
    struct Entry: Sendable, Hashable {
        var name: String
        var isOurs: Bool
        /// What each NIC is plugged into, by its MAC; `nil` for what is neither a network of libvirt nor a bridge.
        var plugs: [String: NetworkBinding?]
        /// The processors and memory that it is defined with.
        var size: Resources?
        /// Whether it has a channel for a guest agent; whether one is behind it is the guest's business.
        var hasAgentChannel = false
    }

    private struct State {
        var entries: [InstanceID: Entry] = [:]
        /// Definitions of our own whose events have not come yet.
        var expected: [InstanceID: Int] = [:]
    }

    private let state = Mutex(State())

    subscript(_ id: InstanceID) -> Entry? { state.withLock { $0.entries[id] } }

    func learn(_ id: InstanceID, _ entry: Entry) { state.withLock { $0.entries[id] = entry } }

    func willDefine(_ id: InstanceID) { state.withLock { $0.expected[id, default: 0] += 1 } }

    func didNotDefine(_ id: InstanceID) { state.withLock { $0.expected[id] = nil } }

    /// libvirt told that the definition changed.
    func definitionChanged(_ id: InstanceID) {
        state.withLock { state in
            guard let expected = state.expected[id] else {
                state.entries[id] = nil
                return
            }
            state.expected[id] = expected > 1 ? expected - 1 : nil
        }
    }

    func forget(_ id: InstanceID) {
        state.withLock { state in
            state.entries[id] = nil
            state.expected[id] = nil
        }
    }

    func forgetAll() {
        state.withLock { state in
            state.entries = [:]
            state.expected = [:]
        }
    }

    /// What NICs of our own domains are plugged into.
    var ownBindings: Set<NetworkBinding> {
        state.withLock { state in
            Set(state.entries.values.filter(\.isOurs).flatMap { $0.plugs.values.compactMap(\.self) })
        }
    }

    /// The domains by their MACs.
    var users: [String: InstanceID] {
        state.withLock { state in
            var users: [String: InstanceID] = [:]
            for (id, entry) in state.entries {
                for mac in entry.plugs.keys { users[mac] = id }
            }
            return users
        }
    }
}
