public import Model

/// What the hypervisor counts of a running guest.
public enum GetDiagnostics: RPCMethod {
    public struct Params: Sendable, Hashable, Codable {
        public var instance: InstanceID

        public init(instance: InstanceID) { self.instance = instance }
    }
    public typealias Result = GuestDiagnostics
    public static let name = "compute.get_diagnostics"
    public static let kind = RPCKind.call
    public static let summary = "Returns the counters of an instance's processors, NICs, disks and memory."
    public static let timeout = Duration.seconds(20)
}

/// The same, for the API: from the host that the instance is on.
public enum FetchDiagnostics: RPCMethod {
    public typealias Params = GetDiagnostics.Params
    public typealias Result = GuestDiagnostics
    public static let name = "conductor.fetch_diagnostics"
    public static let kind = RPCKind.call
    public static let summary = "Returns an instance's diagnostics from the host it is on."
    public static let timeout = Duration.seconds(25)
}

/// Send the guest a non-maskable interrupt, on which it may write a crash dump.
public enum InjectNMI: RPCMethod {
    public struct Params: Sendable, Hashable, Codable {
        public var instance: InstanceID

        public init(instance: InstanceID) { self.instance = instance }
    }
    public typealias Result = RPCConfirmation
    public static let name = "compute.inject_nmi"
    public static let kind = RPCKind.call
    public static let summary = "Sends an instance's guest a non-maskable interrupt."
    public static let timeout = Duration.seconds(20)
}

/// The same, for the API.
public enum TriggerCrashDump: RPCMethod {
    public typealias Params = InjectNMI.Params
    public typealias Result = RPCConfirmation
    public static let name = "conductor.trigger_crash_dump"
    public static let kind = RPCKind.call
    public static let summary = "Sends an instance's guest a non-maskable interrupt through its host."
    public static let timeout = Duration.seconds(25)
}

/// Whether the guest's agent answers, and how quickly.
public enum PingGuestAgent: RPCMethod {
    public struct Params: Sendable, Hashable, Codable {
        public var instance: InstanceID

        public init(instance: InstanceID) { self.instance = instance }
    }
    public struct Result: Sendable, Hashable, Codable {
        /// No also for a guest that does not run, or whose image names no agent.
        public var isAnswering: Bool
        /// From the question to the answer, or to giving up.
        public var milliseconds: Double

        public init(isAnswering: Bool, milliseconds: Double) {
            (self.isAnswering, self.milliseconds) = (isAnswering, milliseconds)
        }
    }
    public static let name = "compute.ping_guest_agent"
    public static let kind = RPCKind.call
    public static let summary = "Tells whether an instance's guest agent answers, and in what time."
    public static let timeout = Duration.seconds(20)
}

/// The same, for the API: from the host that the instance is on.
public enum FetchGuestAgent: RPCMethod {
    public typealias Params = PingGuestAgent.Params
    public typealias Result = PingGuestAgent.Result
    public static let name = "conductor.fetch_guest_agent"
    public static let kind = RPCKind.call
    public static let summary = "Tells whether an instance's guest agent answers its host, and in what time."
    public static let timeout = Duration.seconds(25)
}

/// Where the guest's cells, processors and pages are.
public enum GetTopology: RPCMethod {
    public struct Params: Sendable, Hashable, Codable {
        public var instance: InstanceID

        public init(instance: InstanceID) { self.instance = instance }
    }
    public typealias Result = GuestTopology
    public static let name = "compute.get_topology"
    public static let kind = RPCKind.call
    public static let summary = "Tells where an instance's cells are on its host."
    public static let timeout = Duration.seconds(10)
}

/// The same, for the API: from the host that the instance is on.
public enum FetchTopology: RPCMethod {
    public typealias Params = GetTopology.Params
    public typealias Result = GuestTopology
    public static let name = "conductor.fetch_topology"
    public static let kind = RPCKind.call
    public static let summary = "Tells where an instance's cells are on the host it is on."
    public static let timeout = Duration.seconds(15)
}
