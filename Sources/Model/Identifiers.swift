/// A wrapped text identifier: two of different kinds cannot be swapped, and each encodes as plain text.
public protocol Identifier: RawRepresentable, Hashable, Sendable, Codable, Comparable, CustomStringConvertible
where RawValue == String {
    init(rawValue: String)
}

extension Identifier {
    public init(_ text: String) { self.init(rawValue: text) }

    public var description: String { rawValue }

    public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }

    public init(from decoder: any Decoder) throws {
        self.init(rawValue: try decoder.singleValueContainer().decode(String.self))
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(rawValue)
    }
}

/// An instance's uuid, in lower case with dashes; also the libvirt domain's uuid.
public struct InstanceID: Identifier {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }
}

/// A project's id as the identity service gives it: 32 hexadecimal digits.
public struct ProjectID: Identifier {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }
}

/// A user's id as the identity service gives it: 32 hexadecimal digits.
public struct UserID: Identifier {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }
}

/// A flavor's public id (`flavorid` in Nova): any text the creator chose.
public struct FlavorID: Identifier {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }
}

/// An image's uuid.
public struct ImageID: Identifier {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }
}

/// The name under which a compute host is enrolled (`[DEFAULT] host`).
public struct HostName: Identifier {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }
}

/// The uuid of a durable task.
public struct TaskID: Identifier {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }

    /// The name under which a host carries out one of several commands that the task has for it.
    public func part(_ name: String) -> TaskID { TaskID("\(rawValue)#\(name)") }

    /// The task that a part belongs to; a task itself for itself.
    public var whole: TaskID { rawValue.firstIndex(of: "#").map { TaskID(String(rawValue[..<$0])) } ?? self }
}

/// The uuid of a claim in an agent's resource tracker.
public struct ClaimID: Identifier {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }
}

/// The uuid of a migration, a resize or an evacuation of one instance.
public struct MigrationID: Identifier {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }
}

/// A server group's uuid.
public struct ServerGroupID: Identifier {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }
}

/// The id of one user's call, `req-<uuid>`, carried from the API to the last log line on the host.
public struct RequestID: Identifier {
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }
}
