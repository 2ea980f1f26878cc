internal import Database
internal import HTTP
internal import Model

/// What consumers have been given. A consumer is a server.
extension PlacementRoutes {
    mutating func addAllocations() {
        let database = database
        add("/allocations/{consumer}") { call in
            let id = InstanceID(call.parameter("consumer").lowercased())
            guard let instance = try await database.instances.find(id), let allocation = Allocation(instance),
                let host = instance.host, let provider = try await ResourceProvider.find(host: host, database)
            else { return PlacementAnswer { $0.object("allocations") { _ in } } }
            return PlacementAnswer(changedAt: instance.updatedAt) { writer in
                writer.object("allocations") { writer in
                    writer.object(provider.uuid) { writer in
                        writer.member("generation", provider.generation)
                        allocation.writeResources(to: &writer)
                    }
                }
                if call.isAtLeast(12) {
                    writer.member("project_id", instance.projectID.rawValue)
                    writer.member("user_id", instance.userID.rawValue)
                }
                if call.isAtLeast(28) { writer.member("consumer_generation", instance.fence.generation) }
                if call.isAtLeast(38) { writer.member("consumer_type", consumerType) }
            }
        }
        add("/usages", since: 9) { call in
            try call.requireQuery(
                call.isAtLeast(38) ? ["project_id", "user_id", "consumer_type"] : ["project_id", "user_id"])
            guard let project = call.request.query["project_id"], !project.isEmpty else {
                throw PlacementError(
                    400, "Invalid query string parameters: 'project_id' is a required property.",
                    code: .missingQueryValue)
            }
            let usage = try await ProjectUsage(
                project: ProjectID(project), user: call.request.query["user_id"].map { UserID($0) }, database)
            return PlacementAnswer { writer in
                writer.object("usages") { writer in usage.write(call, to: &writer) }
            }
        }
    }
}

/// What every consumer of ours is.
private let consumerType = "INSTANCE"

/// What the servers of a project, or of a user in it, have been given together.
private struct ProjectUsage {
    private var consumers = 0
    private var amounts: [String: Int] = [:]

    init(project: ProjectID, user: UserID?, _ database: ControlDatabase) async throws {
        var query = InstanceQuery()
        (query.projectID, query.userID) = (project, user)
        var page: [Instance]
        repeat {
            page = try await database.instances.list(query)
            for allocation in page.compactMap(Allocation.init) {
                consumers += 1
                for (name, amount) in allocation.resources { amounts[name, default: 0] += amount }
            }
            query.marker = page.last?.id
        } while page.count == query.limit
    }

    /// From 1.38 on by type of consumer, `all` of them being one, on request.
    func write(_ call: PlacementCall, to writer: inout JSONWriter) {
        guard call.isAtLeast(38) else { return writeAmounts(to: &writer) }
        let wanted = call.request.query["consumer_type"]
        guard consumers > 0, wanted == nil || wanted == "all" || wanted == consumerType else { return }
        writer.object(wanted ?? consumerType) { writer in
            writer.member("consumer_count", consumers)
            writeAmounts(to: &writer)
        }
    }

    private func writeAmounts(to writer: inout JSONWriter) {
        for (name, amount) in amounts.sorted(by: { $0.key < $1.key }) { writer.member(name, amount) }
    }
}
