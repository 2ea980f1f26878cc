/// The roles that have a meaning of their own.
public enum BuiltInRole: String, Sendable, CaseIterable {
    case admin, manager, member, reader, service

    /// The role that this one includes.
    var implied: BuiltInRole? {
        switch self {
        case .admin: .manager
        case .manager: .member
        case .member: .reader
        case .reader, .service: nil
        }
    }

    var summary: String {
        switch self {
        case .admin: "Sees and changes everything"
        case .manager: "Also migrates within the own project"
        case .member: "Changes what the own project has"
        case .reader: "Sees what the own project has"
        case .service: "For services among each other"
        }
    }

    /// The names with everything they include: admin → manager → member → reader.
    public static func expanding(_ names: Set<String>) -> Set<String> {
        var all = names
        for name in names {
            var next = BuiltInRole(rawValue: name)?.implied
            while let role = next {
                all.insert(role.rawValue)
                next = role.implied
            }
        }
        return all
    }
}
