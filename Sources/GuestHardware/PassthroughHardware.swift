/// The host's devices that a guest asks for itself.
public struct PassthroughHardware: Sendable, Hashable {
    /// So many devices of an alias that operators define.
    public struct Request: Sendable, Hashable {
        public var alias: String
        public var count: Int
    }

    /// How near to the guest's memory they must be, in place of what the alias says.
    public enum Policy: String, Sendable, Hashable, CaseIterable {
        case required, socket, preferred, legacy
    }

    /// In the order in which the flavor names them; empty for a guest that asks for none.
    public var requests: [Request]
    public var policy: Policy?
    /// How many mediated devices, of whatever physical device and type the host gives (`resources:VGPU`).
    public var vgpus: Int

    /// How many devices a guest may ask for.
    static let limit = 32

    init(_ reader: HardwareReader) throws(HardwareError) {
        policy = try reader.choice(agreed: "pci_numa_affinity_policy")
        requests =
            try reader.spec("pci_passthrough:alias").map { (setting) throws(HardwareError) in
                try Self.read(setting)
            } ?? []
        vgpus = try reader.spec("resources:VGPU")?.whole(0...Self.limit) ?? 0
    }

    static func read(_ setting: Setting) throws(HardwareError) -> [Request] {
        var found: [Request] = []
        for part in setting.value.split(separator: ",", omittingEmptySubsequences: false) {
            let words = part.split(separator: ":", omittingEmptySubsequences: false).map { word in
                String(word.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
            }
            guard words.count == 2, (1...64).contains(words[0].utf8.count), let count = Int(words[1]),
                (1...limit).contains(count), !found.contains(where: { $0.alias == words[0] })
            else {
                throw HardwareError(
                    setting, "aliases are wanted, each once and with a number from 1 to \(limit): gpu:1,nic:2")
            }
            found.append(Request(alias: words[0], count: count))
        }
        guard found.reduce(0, { $0 + $1.count }) <= limit else {
            throw HardwareError(setting, "at most \(limit) devices may be asked for")
        }
        return found
    }
}
