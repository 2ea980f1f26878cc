public import Model

/// Why a server is left where it is.
public enum MoveObstacle: String, Sendable, Hashable, CaseIterable {
    /// Whoever locked it does not want it touched.
    case locked
    /// A task is under way.
    case task
    /// It is neither active nor stopped, or was never active.
    case state
    /// It has devices of its host, or shares of them.
    case devices
    /// It has a trusted platform module in software, whose state is on its host.
    case virtualTPM = "virtual_tpm"
    /// Its host is disabled or down: emptying such a host is another matter.
    case hostUnusable = "host_unusable"
    /// Its host has not reported.
    case hostUnknown = "host_unknown"

    /// What keeps an instance from being moved without its owner's asking; `nil` where nothing does.
    public init?(of instance: Instance) {
        do throws(InvalidState) {
            _ = try InstanceRequest.migrate.admitted(to: instance, isAdmin: false)
        } catch {
            switch error.obstacle {
            case .locked: self = .locked
            case .taskState, .nothingUnderWay: self = .task
            case .vmState, .notLaunched, .noHost: self = .state
            }
            return
        }
        if instance.flavor.extraSpecs["pci_passthrough:alias"] != nil || instance.vgpus > 0 {
            self = .devices
        } else if instance.hasVirtualTPM(imageProperties: instance.imageProperties ?? [:]) {
            self = .virtualTPM
        } else {
            return nil
        }
    }

    /// Reads after a count: "3 locked".
    public var text: String {
        switch self {
        case .locked: "locked"
        case .task: "with a task under way"
        case .state: "neither active nor stopped"
        case .devices: "with devices of the host"
        case .virtualTPM: "with a TPM in software"
        case .hostUnusable: "on hosts that are disabled or down"
        case .hostUnknown: "on hosts that have not reported"
        }
    }
}

/// A server on a host, for those who think of moving it.
public struct PlacedServer: Sendable, Hashable {
    public var id: InstanceID
    public var name: String
    public var host: HostName
    /// What placing it anew asks. Where other servers are, those of its group among them, is not in it.
    public var request: PlacementRequest
    /// `nil` for one that may be moved.
    public var obstacle: MoveObstacle?

    public init(
        id: InstanceID, name: String, host: HostName, request: PlacementRequest, obstacle: MoveObstacle? = nil
    ) {
        (self.id, self.name, self.host, self.request, self.obstacle) = (id, name, host, request, obstacle)
    }

    /// By the server's record; `nil` for one that is on no host.
    ///
    /// - Parameter group: that it is in.
    public init?(_ instance: Instance, in group: ServerGroup?) {
        guard let host = instance.host else { return nil }
        var instance = instance
        // What was asked for when it was made has been done.
        instance.destination = nil
        var request = PlacementRequest(of: instance, alternates: 0)
        request.group = group.map {
            .init(id: $0.id, policy: $0.policy, maxServersPerHost: $0.maxServersPerHost ?? 1)
        }
        self.init(
            id: instance.id, name: instance.name, host: host, request: request, obstacle: MoveObstacle(of: instance))
    }
}

// MARK: - As a document

extension PlacedServer {
    /// Throws where a member is none, is of another type, or is wanted and not there.
    public init(document json: JSON, at place: String = "") throws(DocumentError) {
        guard var members = json.members, let request = members.removeValue(forKey: "request") else {
            throw DocumentError(place, "an object with a request is wanted")
        }
        var reader = try DocumentReader(.object(members), place)
        guard let id = try reader.text("id") else { throw reader.missing("id") }
        guard let host = try reader.text("host") else { throw reader.missing("host") }
        self.init(
            id: InstanceID(id), name: try reader.text("name") ?? id, host: HostName(host),
            request: try PlacementRequest(document: request, at: reader.name("request")))
        if let text = try reader.text("obstacle") {
            guard let obstacle = MoveObstacle(rawValue: text) else {
                let known = MoveObstacle.allCases.map(\.rawValue).joined(separator: ", ")
                throw DocumentError(reader.name("obstacle"), "one of \(known) is wanted")
            }
            self.obstacle = obstacle
        }
        try reader.finish()
    }

    /// What `init(document:)` reads.
    public var document: JSON {
        var members: [String: JSON] = [
            "id": .string(id.rawValue), "name": .string(name), "host": .string(host.rawValue),
            "request": request.document,
        ]
        members["obstacle"] = obstacle.map { .string($0.rawValue) }
        return .object(members)
    }
}
