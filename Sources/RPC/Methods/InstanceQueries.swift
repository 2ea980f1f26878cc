public import Model

/// One instance of the calling host, as it is now, for its metadata: with the user data, which the host does not keep.
///
/// `not_found`: the database does not place it on the calling host, whatever else it knows of it.
public enum GetHostInstance: RPCMethod {
    public struct Params: Sendable, Hashable, Codable {
        public var host: HostName
        public var instance: InstanceID

        public init(host: HostName, instance: InstanceID) { (self.host, self.instance) = (host, instance) }
    }
    public struct Result: Sendable, Hashable, Codable {
        public var instance: Instance

        public init(instance: Instance) { self.instance = instance }
    }
    public static let version = RPCVersion(1, 1)
    public static func backport(result: Result, to version: RPCVersion) -> Result {
        Result(instance: result.instance.inFirstForm)
    }
    public static let name = "conductor.get_host_instance"
    public static let kind = RPCKind.call
    public static let summary = "Returns one instance that the database places on the calling host."
    public static let timeout = Duration.seconds(10)
}
