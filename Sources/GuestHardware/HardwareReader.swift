internal import Model

/// Looks properties up in a flavor and an image, and settles who of the two has the say.
struct HardwareReader: Sendable {
    let specs: [String: String]
    let properties: [String: String]

    /// - Throws: for the first name, in alphabetical order, that is unknown or whose value can steer no guest.
    init(specs: [String: String], properties: [String: String]) throws(HardwareError) {
        self.specs = specs
        self.properties = properties
        for (name, value) in specs.sorted(by: { $0.key < $1.key }) where PropertyTable.governs(spec: name) {
            try Self.check(Setting(name: name, origin: .flavor, value: value))
        }
        for (name, value) in properties.sorted(by: { $0.key < $1.key }) where PropertyTable.governs(property: name) {
            try Self.check(Setting(name: name, origin: .image, value: value))
        }
    }

    private static func check(_ setting: Setting) throws(HardwareError) {
        guard let rule = PropertyTable.rule(setting) else {
            throw HardwareError(setting, "there is no \(setting.origin.rawValue) of this name")
        }
        try rule.check(setting)
    }

    func spec(_ name: String) -> Setting? {
        specs[name].map { Setting(name: name, origin: .flavor, value: $0) }
    }

    func property(_ name: String) -> Setting? {
        properties[name].map { Setting(name: name, origin: .image, value: $0) }
    }

    /// `hw:NAME` or `hw_NAME`, which must say the same if both are there.
    func agreed(_ name: String) throws(HardwareError) -> Setting? {
        try agreed(spec: "hw:" + name, property: "hw_" + name)
    }

    func agreed(spec: String, property: String) throws(HardwareError) -> Setting? {
        guard let flavors = self.spec(spec) else { return self.property(property) }
        guard let images = self.property(property) else { return flavors }
        guard try isSame(flavors, images) else {
            throw HardwareError(flavors, "\(images.described) contradicts it")
        }
        return flavors
    }

    private func isSame(_ one: Setting, _ other: Setting) throws(HardwareError) -> Bool {
        // "yes" and "true" agree.
        guard case .flag? = PropertyTable.rule(one) else { return one.value == other.value }
        return try one.flag() == other.flag()
    }

    func agreedFlag(_ name: String) throws(HardwareError) -> Bool? { try agreed(name)?.flag() }

    func flag(spec name: String) throws(HardwareError) -> Bool? { try spec(name)?.flag() }
    func flag(property name: String) throws(HardwareError) -> Bool? { try property(name)?.flag() }

    func whole(spec name: String) throws(HardwareError) -> Int? {
        guard let setting = spec(name) else { return nil }
        return try setting.whole(.min ... .max)
    }

    func whole(property name: String) throws(HardwareError) -> Int? {
        guard let setting = property(name) else { return nil }
        return try setting.whole(.min ... .max)
    }

    func choice<Value: RawRepresentable & CaseIterable>(property name: String) throws(HardwareError) -> Value?
    where Value.RawValue == String {
        guard let setting = property(name) else { return nil }
        let value: Value = try setting.choice()
        return value
    }

    func choice<Value: RawRepresentable & CaseIterable>(agreed name: String) throws(HardwareError) -> Value?
    where Value.RawValue == String {
        guard let setting = try agreed(name) else { return nil }
        let value: Value = try setting.choice()
        return value
    }
}
