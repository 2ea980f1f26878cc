internal import Model

/// What values a property takes, looked at alone.
enum PropertyRule: Sendable, Hashable {
    case flag
    case whole(ClosedRange<Int>)
    /// The same, or -1 for no limit.
    case limit(ClosedRange<Int>)
    case choice([String])
    /// Letters, digits, `.`, `_` and `-`; at most 64.
    case name
    /// Any text of one to 255 characters, none of them a control character.
    case text
    /// Numbers of vCPUs: `0-3,^2`, or `^0` for all but that.
    case cpuList
    /// `gpu:1,nic:2`
    case aliases
    /// `small`, `large`, `any`, or a size.
    case pageSize
    /// A name of Nova's whose work is not built. Without a value nothing is asked for.
    case unserved(String)

    static func choice<Value: RawRepresentable & CaseIterable>(_: Value.Type) -> PropertyRule
    where Value.RawValue == String {
        .choice(Value.allCases.map(\.rawValue))
    }

    /// - Throws: when `setting` can steer no guest, whatever else its flavor and image say.
    func check(_ setting: Setting) throws(HardwareError) {
        switch self {
        case .flag: _ = try setting.flag()
        case .whole(let range): _ = try setting.whole(range)
        case .limit(let range):
            guard setting.value != "-1" else { return }
            _ = try setting.whole(range)
        case .choice(let values):
            guard values.contains(setting.value) else { throw HardwareError(setting, Self.wanted(values)) }
        case .name:
            guard (1...64).contains(setting.value.utf8.count), setting.value.utf8.allSatisfy(Self.isNameByte) else {
                throw HardwareError(setting, "up to 64 letters, digits, '.', '_' and '-' are wanted")
            }
        case .text:
            let isText = setting.value.unicodeScalars.allSatisfy { $0.properties.generalCategory != .control }
            guard (1...255).contains(setting.value.unicodeScalars.count), isText else {
                throw HardwareError(setting, "a text of up to 255 characters is wanted")
            }
        case .cpuList:
            let text = setting.value.hasPrefix("^") ? "0-\(CPUSet.highest)," + setting.value : setting.value
            guard setting.value.utf8.count <= 255, CPUSet(parsing: text) != nil else {
                throw HardwareError(setting, "a list of CPUs is wanted: 0-3,^2")
            }
        case .aliases: _ = try PassthroughHardware.read(setting)
        case .pageSize: _ = try TopologyRequest.read(setting)
        case .unserved(let what):
            guard setting.value.isEmpty else { throw HardwareError(setting, "\(what) is not available yet") }
        }
    }

    static func wanted(_ values: [String]) -> String {
        values.count == 1 ? "\(values[0]) is wanted" : "one of \(values.joined(separator: ", ")) is wanted"
    }

    private static func isNameByte(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
        default: "._-".utf8.contains(byte)
        }
    }
}

extension Setting {
    /// Booleans as the tools of this field write them.
    func flag() throws(HardwareError) -> Bool {
        switch value.lowercased() {
        case "1", "t", "true", "on", "y", "yes": return true
        case "0", "f", "false", "off", "n", "no": return false
        default: throw HardwareError(self, "true or false is wanted")
        }
    }

    func whole(_ range: ClosedRange<Int>) throws(HardwareError) -> Int {
        guard let number = Int(value) else {
            throw HardwareError(self, "a whole number from \(range.lowerBound) is wanted")
        }
        guard range.contains(number) else {
            throw HardwareError(self, "a whole number from \(range.lowerBound) to \(range.upperBound) is wanted")
        }
        return number
    }

    func choice<Value: RawRepresentable & CaseIterable>() throws(HardwareError) -> Value
    where Value.RawValue == String {
        guard let found = Value(rawValue: value) else {
            throw HardwareError(self, PropertyRule.wanted(Value.allCases.map(\.rawValue)))
        }
        return found
    }
}
