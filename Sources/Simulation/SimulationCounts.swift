/// What the hosts of a simulation have seen.
public struct SimulationCounts: Sendable, Hashable {
    public var heartbeats = 0
    /// Beats that no conductor heard, and beats whose host still waited for the answer to the one before.
    public var lostHeartbeats = 0
    public var lateHeartbeats = 0
    public var reports = 0
    public var failedReports = 0
    public var builds = 0
    public var failedBuilds = 0
    public var refusedBuilds = 0
    public var deletions = 0
    /// Images that were filled, and snapshots that came to nothing on their host.
    public var snapshots = 0
    public var failedSnapshots = 0
    public var deaths = 0
    /// Commands that came to a host that was away.
    public var missedCommands = 0

    public init() {}
}
