/// The smaller devices of a guest.
public struct DeviceHardware: Sendable, Hashable {
    /// `nil`: the guest has no random number device.
    public var randomness: RandomnessLimit?
    public var watchdog: WatchdogAction
    /// 1 to 4.
    public var serialPorts: Int
    public var tpm: TPMHardware?

    init(_ reader: HardwareReader) throws(HardwareError) {
        randomness = try reader.flag(spec: "hw_rng:allowed") == false ? nil : RandomnessLimit(reader)
        let action = reader.property("hw_watchdog_action") ?? reader.spec("hw:watchdog_action")
        watchdog = try action?.choice() ?? .disabled
        serialPorts = try Self.serialPorts(reader)
        tpm = try TPMHardware(reader)
    }

    /// As many as the flavor allows; the image may have fewer.
    private static func serialPorts(_ reader: HardwareReader) throws(HardwareError) -> Int {
        let allowed = try reader.whole(spec: "hw:serial_port_count")
        guard let setting = reader.property("hw_serial_port_count") else { return allowed ?? 1 }
        let wanted = try setting.whole(1...4)
        if let allowed, wanted > allowed {
            throw HardwareError(setting, "the flavor allows at most \(allowed) (hw:serial_port_count)")
        }
        return wanted
    }
}

/// How much a guest may draw from its random number device.
public struct RandomnessLimit: Sendable, Hashable {
    /// In each period; `nil` is no limit.
    public var bytes: Int?
    public var periodMilliseconds: Int?

    init(_ reader: HardwareReader) throws(HardwareError) {
        bytes = try reader.whole(spec: "hw_rng:rate_bytes").flatMap { $0 == 0 ? nil : $0 }
        periodMilliseconds = try reader.whole(spec: "hw_rng:rate_period")
    }
}

/// A trusted platform module in software.
public struct TPMHardware: Sendable, Hashable {
    public var version: TPMVersion
    public var model: TPMModel

    init?(_ reader: HardwareReader) throws(HardwareError) {
        let model = try reader.agreed("tpm_model")
        guard let version: TPMVersion = try reader.choice(agreed: "tpm_version") else {
            if let model { throw HardwareError(model, "the version (hw:tpm_version) is wanted with it") }
            return nil
        }
        self.version = version
        self.model = try model?.choice() ?? .tis
        if self.model == .crb, version != .v2, let model {
            throw HardwareError(model, "TPM \(version.rawValue) has no such interface; 2.0 has")
        }
    }
}
