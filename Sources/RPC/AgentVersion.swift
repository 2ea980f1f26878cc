/// The version number that agents tell with each heartbeat; it rises with each release.
public enum AgentVersion {
    /// This release's.
    public static let current = 3
    /// The oldest that conductors of this release work with: that of the release before, so that hosts are upgraded one
    /// after the other.
    public static let oldest = 1
}
