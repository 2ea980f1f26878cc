/// What is simulated.
public struct SimulationSettings: Sendable, Hashable {
    /// Between two heartbeats of a host.
    public var heartbeatInterval = Duration.seconds(10)
    /// Between two reports of a host on which nothing changes.
    public var reportInterval = Duration.seconds(60)
    /// The median of a guest's build; single ones are spread around it, most between half and twice of it.
    public var buildTime = Duration.seconds(2)
    /// The share of builds that fail on the host, from 0 to 1.
    public var failureShare = 0.01
    /// How many agents die in a minute, of all; each is away for `absence`.
    public var deathsPerMinute = 0.0
    public var absence = Duration.seconds(30)
    /// Where every draw begins.
    public var seed: UInt64 = 1

    public init() {}
}
