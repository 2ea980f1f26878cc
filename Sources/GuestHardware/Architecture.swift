/// What processors an image's programs are for.
public enum Architecture: String, Sendable, Hashable, CaseIterable {
    case x86_64, i686, aarch64, armv7l, ppc64le, riscv64, s390x

    /// The other names that images carry.
    private static let aliases: [String: Architecture] = [
        "amd64": .x86_64, "i386": .i686, "x86": .i686, "arm64": .aarch64, "ppc64el": .ppc64le,
    ]

    static let names = allCases.map(\.rawValue) + aliases.keys.sorted()

    /// Names that no image is made with here, but that operators and other clouds' images say.
    private static let further: [String: Architecture] = [
        "i486": .i686, "i586": .i686, "x86_32": .i686, "x86-64": .x86_64, "x64": .x86_64,
    ]

    /// The one name of what `name` says in any of its forms; of what is unknown the name in lower case.
    public static func canonical(_ name: String) -> String {
        let name = name.lowercased()
        return (Architecture(name: name) ?? further[name])?.rawValue ?? name
    }

    /// The architecture of one of `names`.
    init?(name: String) {
        guard let found = Architecture(rawValue: name) ?? Self.aliases[name] else { return nil }
        self = found
    }
}
