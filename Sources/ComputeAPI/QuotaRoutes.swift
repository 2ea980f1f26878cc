internal import Database
internal import HTTP
internal import Identity
internal import Model

/// What projects, their users, and all of them by default may have.
extension ComputeRoutes {
    mutating func addQuotas() {
        let parts = parts
        add(.get, "os-quota-sets/{id}", rule: nil) { call in
            let subject = try await QuotaSubject(call, "os-quota-sets:show", parts)
            let limits = try await subject.report().limits.user
            return quotaAnswer("quota_set", id: subject.project.rawValue, limits, QuotaForm.set(call))
        }
        add(.get, "os-quota-sets/{id}/detail", rule: nil) { call in
            let subject = try await QuotaSubject(call, "os-quota-sets:detail", parts)
            let (limits, inUse) = try await subject.report()
            return jsonAnswer(capacity: 1_536) { writer in
                writer.object("quota_set") { writer in
                    writer.member("id", subject.project.rawValue)
                    for resource in QuotaForm.set(call) {
                        writer.object(resource.rawValue) { writer in
                            writer.member("limit", limits.user[resource])
                            writer.member("in_use", inUse[resource])
                            // Nothing is reserved: what is being made is counted already.
                            writer.member("reserved", 0)
                        }
                    }
                }
            }
        }
        add(.get, "os-quota-sets/{id}/defaults", rule: nil) { call in
            let subject = try await QuotaSubject(call, "os-quota-sets:defaults", parts)
            let limits = try await parts.database.quotas.defaults(configured: parts.settings.quotas)
            return quotaAnswer("quota_set", id: subject.project.rawValue, limits, QuotaForm.set(call))
        }
        add(.put, "os-quota-sets/{id}", rule: nil) { call in
            let subject = try await QuotaSubject(call, "os-quota-sets:update", parts)
            let limits = try await subject.update(call)
            return quotaAnswer("quota_set", id: nil, limits, QuotaForm.set(call))
        }
        add(.delete, "os-quota-sets/{id}", rule: nil) { call in
            // What is left of a project that is gone can be removed, so its existence is not asked for.
            let subject = try await QuotaSubject(call, "os-quota-sets:delete", parts, mayBeGone: true)
            try await parts.database.quotas.remove(project: subject.project, user: subject.user)
            return HTTPResponse(202)
        }
        add(.get, "os-quota-class-sets/{id}", rule: "os-quota-class-sets:show") { call in
            let name = try quotaClass(call)
            let limits = try await parts.database.quotas.defaults(configured: parts.settings.quotas)
            return quotaAnswer("quota_class_set", id: name, limits, QuotaForm.classSet(call))
        }
        add(.put, "os-quota-class-sets/{id}", rule: "os-quota-class-sets:update") { call in
            _ = try quotaClass(call)
            var (fields, _) = try BodyFields.body(call.request.bytes, member: "quota_class_set")
            // The groups' can be set before 2.50, though not seen.
            let known = QuotaForm.classSet(call) + [.serverGroups, .serverGroupMembers]
            let asked = try quotaLimits(&fields, known)
            try fields.finish()
            let limits = try await parts.database.quotas.setDefaults(asked, configured: parts.settings.quotas)
            return quotaAnswer("quota_class_set", id: nil, limits, QuotaForm.classSet(call))
        }
    }
}

/// Which limits clients of each version see.
private enum QuotaForm {
    private static let networks: Set<QuotaResource> = [.fixedIPs, .floatingIPs, .securityGroups, .securityGroupRules]
    private static let files: Set<QuotaResource> = [
        .injectedFiles, .injectedFileContentBytes, .injectedFilePathBytes,
    ]
    private static let groups: Set<QuotaResource> = [.serverGroups, .serverGroupMembers]

    static func set(_ call: ComputeCall) -> [QuotaResource] {
        QuotaResource.allCases.filter { resource in
            !(call.isAtLeast(36) && networks.contains(resource)) && !(call.isAtLeast(57) && files.contains(resource))
        }
    }

    static func classSet(_ call: ComputeCall) -> [QuotaResource] {
        QuotaResource.allCases.filter { resource in
            !(call.isAtLeast(50) ? networks : groups).contains(resource)
                && !(call.isAtLeast(57) && files.contains(resource))
        }
    }
}

/// Whose quota a request is about: a project's, or with `user_id` that of a user in it.
private struct QuotaSubject: Sendable {
    let project: ProjectID
    let user: UserID?
    private let parts: ComputeParts

    /// Throws 403 unless the rule admits the caller, 400 when the identity service knows no such project.
    init(_ call: ComputeCall, _ rule: String, _ parts: ComputeParts, mayBeGone: Bool = false) async throws {
        try call.requireKnownQuery(["user_id"])
        let id = call.parameter("id")
        let isOwn = id == call.caller.projectID.rawValue
        try call.require(rule, owner: isOwn)
        let user = call.query["user_id"] ?? ""
        guard (1...255).contains(id.utf8.count), user.utf8.count <= 255 else {
            throw APIError.badRequest("Project and user are named by ids of at most 255 bytes.")
        }
        if !mayBeGone, !isOwn, try await parts.database.identity.findProject(id: ProjectID(id)) == nil {
            throw APIError.badRequest("Project ID \(id) is not a valid project.")
        }
        (project, self.user, self.parts) = (ProjectID(id), user.isEmpty ? nil : UserID(user), parts)
    }

    func report() async throws -> (limits: QuotaStore.Limits, inUse: QuotaStore.InUse) {
        try await parts.database.quotas.report(of: project, user: user, configured: parts.settings.quotas)
    }

    /// Sets what the body says and answers what is in force then. Throws 400 for a limit below what is used, and for a
    /// user's above the project's, unless the body has `force`.
    func update(_ call: ComputeCall) async throws -> QuotaLimits {
        var (fields, _) = try BodyFields.body(call.request.bytes, member: "quota_set")
        let isForced = try fields.flag("force") ?? false
        let asked = try quotaLimits(&fields, QuotaForm.set(call))
        try fields.finish()
        let isOfUser = user != nil
        let limits = try await parts.database.quotas.set(
            asked, of: project, user: user, configured: parts.settings.quotas
        ) { limits, inUse in
            guard !isForced else { return }
            for (resource, limit) in asked.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
                let (used, most) = (inUse[resource], isOfUser ? limits.project[resource] : QuotaLimits.unlimited)
                guard limit < 0 || limit >= used else {
                    throw APIError.badRequest(
                        "Quota limit \(limit) for \(resource.rawValue) must be greater than or equal to already used "
                            + "and reserved \(used).")
                }
                guard most < 0 || (0...most).contains(limit) else {
                    throw APIError.badRequest(
                        "Quota limit \(limit) for \(resource.rawValue) must be less than or equal to \(most).")
                }
            }
        }
        return limits.user
    }
}

/// The members of `known`, each a whole number from -1 on.
private func quotaLimits(
    _ fields: inout BodyFields, _ known: [QuotaResource]
) throws(APIError) -> [QuotaResource: Int] {
    var limits: [QuotaResource: Int] = [:]
    for resource in Set(known) {
        limits[resource] = try fields.integer(resource.rawValue, QuotaLimits.unlimited...Int(Int32.max))
    }
    return limits
}

/// Throws 404 for another class than the one that has an effect.
private func quotaClass(_ call: ComputeCall) throws(APIError) -> String {
    let name = call.parameter("id")
    guard name == "default" else {
        throw .notFound("Quota class \(name) could not be found: the one class is 'default'.")
    }
    return name
}

private func quotaAnswer(
    _ member: String, id: String?, _ limits: QuotaLimits, _ shown: [QuotaResource]
) -> HTTPResponse {
    jsonAnswer { writer in
        writer.object(member) { writer in
            if let id { writer.member("id", id) }
            for resource in shown { writer.member(resource.rawValue, limits[resource]) }
        }
    }
}
