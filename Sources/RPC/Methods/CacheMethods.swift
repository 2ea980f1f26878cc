public import Model

/// Has an image in a host's cache before anybody needs it there. Waits for a while; asked again, goes on waiting.
public enum CacheImage: RPCMethod {
    public struct Params: Sendable, Hashable, Codable {
        public var host: HostName
        /// The task that asks; the host may read the image's bytes as long as it is under way.
        public var task: TaskID
        public var image: ImageReference

        public init(host: HostName, task: TaskID, image: ImageReference) {
            (self.host, self.task, self.image) = (host, task, image)
        }
    }
    public struct Result: Sendable, Hashable, Codable {
        /// Whether the image is in the cache; otherwise it is being fetched, or waits for others that are.
        public var isCached: Bool

        public init(isCached: Bool) { self.isCached = isCached }
    }
    public static let name = "compute.cache_image"
    public static let kind = RPCKind.call
    public static let summary = "Has an image in the host's cache, and tells whether it is there."
    /// Longer than the host waits before it answers.
    public static let timeout = Duration.seconds(40)
}

/// Permission to read the bytes of an image that a task under way has the host keep.
public enum GetCacheTicket: RPCMethod {
    public struct Params: Sendable, Hashable, Codable {
        public var host: HostName
        public var task: TaskID
        public var image: ImageID

        public init(host: HostName, task: TaskID, image: ImageID) {
            (self.host, self.task, self.image) = (host, task, image)
        }
    }
    public typealias Result = GetImageTicket.Result
    public static let name = "conductor.get_cache_ticket"
    public static let kind = RPCKind.call
    public static let summary = "Issues a short-lived permission to download an image into a host's cache."
}
