internal import Database
internal import HTTP
internal import Identity
internal import Model

/// Which projects may use flavors that are not public.
extension ComputeRoutes {
    mutating func addFlavorAccess() {
        let parts = parts
        add(.get, "flavors/{id}/os-flavor-access", rule: "os-flavor-access") { call in
            let flavor = try await findFlavor(call, parts)
            guard !flavor.isPublic else {
                throw APIError.notFound("Access list not available for public flavors.")
            }
            return accessAnswer(flavor.id, try await parts.database.flavorAccess.projects(of: flavor.id))
        }
        add(.post, "flavors/{id}/action", rule: nil) { call in
            let members = try call.body().members ?? [:]
            guard members.count == 1, let (name, value) = members.first, let action = Action(rawValue: name) else {
                throw APIError.badRequest("There is no such action: \(members.keys.sorted().joined(separator: ", "))")
            }
            try call.require(action.rule)
            var fields = try BodyFields(value, as: name)
            let project = ProjectID(try fields.requiredText("tenant", length: 1...255))
            try fields.finish()
            let flavor = try await findFlavor(call, parts)
            return accessAnswer(flavor.id, try await change(action, flavor, project, call, parts))
        }
    }
}

private enum Action: String {
    case add = "addTenantAccess"
    case remove = "removeTenantAccess"

    var rule: String {
        switch self {
        case .add: "os-flavor-access:add_tenant_access"
        case .remove: "os-flavor-access:remove_tenant_access"
        }
    }
}

/// Does it, and gives the projects that have access then.
private func change(
    _ action: Action, _ flavor: Flavor, _ project: ProjectID, _ call: ComputeCall, _ parts: ComputeParts
) async throws -> [ProjectID] {
    let store = parts.database.flavorAccess
    do {
        switch action {
        case .add:
            // Since 2.7 nobody lists who may use what all may use.
            guard !flavor.isPublic || !call.isAtLeast(7) else {
                throw APIError.conflict("Can not add access to a public flavor.")
            }
            guard try await parts.database.identity.findProject(id: project) != nil else {
                throw APIError.badRequest("Project ID \(project) is not a valid project.")
            }
            return try await store.grant(flavor.id, to: project)
        case .remove:
            // What is left of a project that is gone can be removed, so its existence is not asked for.
            return try await store.revoke(flavor.id, from: project)
        }
    } catch StoreError.exists {
        throw APIError.conflict("Project \(project) has access to flavor \(flavor.id) already.")
    } catch StoreError.notFound(let what) {
        throw APIError.notFound("\(what) could not be found.")
    }
}

private func accessAnswer(_ flavor: FlavorID, _ projects: [ProjectID]) -> HTTPResponse {
    jsonAnswer(capacity: 64 + projects.count * 128) { writer in
        writer.array("flavor_access") { writer in
            for project in projects {
                writer.object { writer in
                    writer.member("flavor_id", flavor.rawValue)
                    writer.member("tenant_id", project.rawValue)
                }
            }
        }
    }
}
