internal import Model
internal import Synchronization

/// What of this host nobody can place, as the last comparisons found it; told with the host's report.
final class StrayList: Sendable {
    private let state = Mutex(HostStrays())
    private let changed: @Sendable () -> Void

    /// `changed` is called when there is something new to tell; it must not wait.
    init(changed: @escaping @Sendable () -> Void) { self.changed = changed }

    /// `nil` when there is nothing.
    var current: HostStrays? {
        let strays = state.withLock { $0 }
        return strays.isEmpty ? nil : strays
    }

    func note(orphans: [InstanceID]) { change { $0.orphans = HostStrays.Finding(orphans) } }

    func note(unplaced: [InstanceID], unknown: [InstanceID]) {
        change {
            $0.unplaced = HostStrays.Finding(unplaced)
            $0.unknown = HostStrays.Finding(unknown)
        }
    }

    private func change(_ body: (inout HostStrays) -> Void) {
        let isNew = state.withLock { strays in
            let before = strays
            body(&strays)
            return strays != before
        }
        if isNew { changed() }
    }
}
