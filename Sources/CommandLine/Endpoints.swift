internal import Model

/// Where the roles of a running `apus up` listen: `endpoints.json` in the state folder.
struct Endpoints: Sendable, Hashable {
    var api: String
    var conductor: String
    var scheduler: String
    var agent: String

    private static func path(in statePath: String) -> String { "\(statePath)/endpoints.json" }

    func write(to statePath: String) throws {
        let json: JSON = [
            "api": .string(api), "conductor": .string(conductor), "scheduler": .string(scheduler),
            "agent": .string(agent),
        ]
        try writePrivateFile(Self.path(in: statePath), String(decoding: json.serialized(), as: UTF8.self) + "\n")
    }

    static func read(from statePath: String) throws -> Endpoints {
        let path = path(in: statePath)
        guard let text = try readTextFile(path) else { throw CommandError.failure("\(path) is not there.") }
        let json = try JSON(parsing: Array(text.utf8))
        guard let api = json["api"]?.text, let conductor = json["conductor"]?.text,
            let scheduler = json["scheduler"]?.text, let agent = json["agent"]?.text
        else { throw CommandError.failure("\(path) does not name the four roles.") }
        return Endpoints(api: api, conductor: conductor, scheduler: scheduler, agent: agent)
    }
}
