public import Configuration

/// What the compute API takes from the configuration.
public struct APISettings: Sendable, Hashable {
    /// Limits; -1 is none.
    public struct Quotas: Sendable, Hashable {
        public var instances: Int
        public var cores: Int
        public var memoryMiB: Int
        public var metadataItems: Int
        public var keyPairs: Int

        public init(
            instances: Int = 10, cores: Int = 20, memoryMiB: Int = 51_200, metadataItems: Int = 128,
            keyPairs: Int = 100
        ) {
            (self.instances, self.cores, self.memoryMiB) = (instances, cores, memoryMiB)
            (self.metadataItems, self.keyPairs) = (metadataItems, keyPairs)
        }
    }

    public var quotas: Quotas
    public var maxLimit: Int
    public var isPasswordShown: Bool
    /// A service that was not heard of for so long is down.
    public var serviceDownTime: Duration
    /// The zone of hosts that are in no other.
    public var availabilityZone: String

    public init(
        quotas: Quotas = Quotas(), maxLimit: Int = 1_000, isPasswordShown: Bool = true,
        serviceDownTime: Duration = .seconds(25), availabilityZone: String = "nova"
    ) {
        (self.quotas, self.maxLimit, self.isPasswordShown) = (quotas, maxLimit, isPasswordShown)
        (self.serviceDownTime, self.availabilityZone) = (serviceDownTime, availabilityZone)
    }

    /// - Parameters:
    ///   - serviceDownTime: `[DEFAULT] service_down_time`.
    ///   - availabilityZone: `[DEFAULT] default_availability_zone`.
    public init(_ configuration: Configuration, serviceDownTime: Duration, availabilityZone: String) {
        self.init(
            quotas: Quotas(
                instances: configuration[APIOptions.instances], cores: configuration[APIOptions.cores],
                memoryMiB: configuration[APIOptions.ram], metadataItems: configuration[APIOptions.metadataItems],
                keyPairs: configuration[APIOptions.keyPairs]),
            maxLimit: configuration[APIOptions.maxLimit],
            isPasswordShown: configuration[APIOptions.isInstancePasswordEnabled], serviceDownTime: serviceDownTime,
            availabilityZone: availabilityZone)
    }
}
