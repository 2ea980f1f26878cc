internal import Database
internal import Images
internal import Model
internal import Simulation
internal import Tasks

/// What must hold when nothing is under way any more.
struct SimulationAudit: Sendable {
    private static let mostProblems = 20

    let database: ControlDatabase
    let fleet: SimulatedFleet

    /// Looks at every server that was accepted, at every host, and at the database's own rules.
    func run(_ accepted: SimulationLoad.Accepted, into result: inout SimulationResult) async throws {
        var problems: [String] = []
        let deletions = Set(accepted.deletions)
        for id in accepted.ids {
            guard let instance = try await database.instances.find(id, includeDeleted: true) else {
                problems.append("server \(id) was accepted, and is not there")
                continue
            }
            switch instance.vmState {
            case .active, .deleted: result.active += 1
            case .error:
                result.failed += 1
                result.note(failure: instance.fault?.message ?? "without a reason")
            default: problems.append("server \(id) is \(instance.vmState.rawValue)")
            }
            if let state = instance.taskState { problems.append("server \(id) is still \(state.rawValue)") }
            let actions = try await database.actions.list(id)
            if deletions.contains(id), let lost = Self.lostDeletion(of: instance, actions) { problems.append(lost) }
            for action in actions {
                guard let end = action.finishedAt else {
                    problems.append("the \(action.kind.rawValue) of server \(id) has no end")
                    continue
                }
                let milliseconds = Double(end.microseconds - action.startedAt.microseconds) / 1_000
                switch action.kind {
                case .create where action.message == nil: result.launches.append(milliseconds)
                case .delete: result.deletions.append(milliseconds)
                default: break
                }
            }
        }
        result.launches.sort()
        result.deletions.sort()
        problems += try await hosts()
        problems += try await snapshots(accepted.snapshots, into: &result)
        for task in try await database.tasks.list(instance: nil, unfinishedOnly: true, limit: 5) {
            problems.append(
                "task \(task.id) (\(task.kind)) is \(task.status.rawValue): \(task.lastError?.message ?? "")")
        }
        problems += try await database.check().map { "\($0.rule): \($0.message)" }
        if problems.count > Self.mostProblems {
            problems = problems.prefix(Self.mostProblems) + ["and \(problems.count - Self.mostProblems) more"]
        }
        result.problems = problems
    }

    /// What is wrong where a deletion was accepted: it has its end, or says why it has none.
    static func lostDeletion(of instance: Instance, _ actions: [InstanceAction]) -> String? {
        guard let deletion = actions.first(where: { $0.kind == .delete }) else {
            return "the deletion of server \(instance.id) was accepted, and is not on record"
        }
        guard instance.vmState != .deleted, deletion.finishedAt != nil, deletion.message == nil else { return nil }
        return "the deletion of server \(instance.id) has ended, and the server is \(instance.vmState.rawValue)"
    }

    /// Each snapshot that was accepted has its end, and each image is whole: what came to nothing has left none, unless its
    /// bytes were there before a deletion overtook it. Servers whose own acceptance nobody heard are among them.
    private func snapshots(_ accepted: [InstanceID], into result: inout SimulationResult) async throws -> [String] {
        var problems: [String] = []
        var made: Set<String> = []
        for id in accepted {
            guard let copy = try await database.actions.list(id).first(where: { $0.kind == .createImage }) else {
                problems.append("an image of server \(id) was accepted, and is not on record")
                continue
            }
            if copy.finishedAt == nil { problems.append("the image of server \(id) has no end") }
            guard copy.message == nil else {
                result.snapshotsFailed += 1
                continue
            }
            result.snapshotsMade += 1
            made.insert("of-\(id)")
        }
        for image in try await database.images.list(visibleTo: nil) where image.name?.hasPrefix("of-") == true {
            if image.status != .active { problems.append("image \(image.id) is \(image.status)") }
            if let name = image.name { made.remove(name) }
        }
        if !made.isEmpty { problems.append("\(made.count) images were made, and are not there: \(made.sorted())") }
        return problems
    }

    private func hosts() async throws -> [String] {
        var problems: [String] = []
        let records = Dictionary(
            try await database.hosts.list().map { ($0.report.host, $0.report) }, uniquingKeysWith: { $1 })
        for (name, held) in fleet.holdings().sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
            let listed = try await database.instances.list(on: name)
            let placed = Set(listed.map(\.id))
            // One in ERROR names the host that was tried last, which may have nothing of it.
            let missing = Set(listed.filter { $0.vmState != .error }.map(\.id)).subtracting(held.instances)
            let extra = held.instances.subtracting(placed)
            if !extra.isEmpty {
                problems.append("host \(name) has \(extra.count) servers that are not on record there")
            }
            if !missing.isEmpty {
                problems.append("host \(name) lacks \(missing.count) servers that are on record there")
            }
            guard let record = records[name] else {
                problems.append("host \(name) is not on record")
                continue
            }
            if record.used != held.used {
                problems.append("host \(name) uses \(held.used), on record are \(record.used)")
            }
        }
        return problems
    }
}
