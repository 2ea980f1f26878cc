internal import Database
internal import Model

/// What was asked for does not fit into a quota: 403 naming what is short.
struct QuotaExceeded: Error, Sendable, Hashable {
    struct Shortage: Sendable, Hashable {
        let resource: QuotaResource
        let requested: Int
        let used: Int
        let limit: Int
    }

    /// Not empty.
    let shortages: [Shortage]

    /// In Nova's words, which clients show as they are.
    var message: String {
        func list(_ member: (Shortage) -> String) -> String { shortages.map(member).joined(separator: ", ") }
        let names = list(\.resource.rawValue)
        return "Quota exceeded for \(names): Requested \(list { String($0.requested) }), but already used "
            + "\(list { String($0.used) }) of \(list { String($0.limit) }) \(names)"
    }

    var apiError: APIError { .forbidden(message) }
}

/// Whether more servers of one flavor fit into what a project, and its user, may have. Usage is counted, not kept.
struct QuotaCheck: Sendable {
    let limits: QuotaStore.Limits
    let usage: InstanceStore.ProjectUsage
    let flavor: Flavor

    /// The project's rows come first, so that a shortage of both is told of the project.
    private var rows: [(resource: QuotaResource, limit: Int, used: Int, each: Int)] {
        [(limits.project, usage.project), (limits.user, usage.user)].flatMap { limits, used in
            [
                (.instances, limits[.instances], used.instances, 1),
                (.cores, limits[.cores], used.cores, flavor.vcpus),
                (.ram, limits[.ram], used.memoryMiB, flavor.memoryMiB),
            ]
        }
    }

    /// How many fit at most.
    var headroom: Int {
        rows.filter { $0.limit >= 0 && $0.each > 0 }.map { max(0, $0.limit - $0.used) / $0.each }.min() ?? .max
    }

    /// Throws unless what the flavor has more than `former` fits.
    func requireIncrease(from former: Flavor) throws(QuotaExceeded) {
        let (limits, usage) = (limits, usage)
        var short: [QuotaExceeded.Shortage] = []
        for (limits, used) in [(limits.project, usage.project), (limits.user, usage.user)] {
            let rows = [
                (QuotaResource.cores, limits[.cores], used.cores, flavor.vcpus - former.vcpus),
                (.ram, limits[.ram], used.memoryMiB, flavor.memoryMiB - former.memoryMiB),
            ]
            for (resource, limit, used, more) in rows where limit >= 0 && more > 0 && used + more > limit {
                guard !short.contains(where: { $0.resource == resource }) else { continue }
                short.append(.init(resource: resource, requested: more, used: used, limit: limit))
            }
        }
        guard short.isEmpty else { throw QuotaExceeded(shortages: short) }
    }

    /// Throws unless `count` more fit.
    func require(_ count: Int) throws(QuotaExceeded) {
        var short: [QuotaExceeded.Shortage] = []
        for row in rows where row.limit >= 0 && row.each > 0 && row.used + row.each * count > row.limit {
            guard !short.contains(where: { $0.resource == row.resource }) else { continue }
            short.append(
                QuotaExceeded.Shortage(
                    resource: row.resource, requested: row.each * count, used: row.used, limit: row.limit))
        }
        guard short.isEmpty else { throw QuotaExceeded(shortages: short) }
    }
}

extension QuotaLimits {
    /// For what is counted within one thing, of which nothing is used before. Throws unless `count` is within the limit.
    func require(_ resource: QuotaResource, _ count: Int) throws(QuotaExceeded) {
        let limit = self[resource]
        guard limit >= 0, count > limit else { return }
        throw QuotaExceeded(
            shortages: [QuotaExceeded.Shortage(resource: resource, requested: count, used: 0, limit: limit)])
    }
}

extension ComputeParts {
    /// The limits of whoever owns a server.
    func limits(of project: ProjectID, _ user: UserID) async throws -> QuotaStore.Limits {
        try await database.quotas.limits(of: project, user: user, configured: settings.quotas)
    }

    /// What one server of theirs may hold: the stricter of the project's and the user's limits.
    func serverLimits(of project: ProjectID, _ user: UserID) async throws -> QuotaLimits {
        let limits = try await limits(of: project, user)
        return limits.project.stricter(limits.user)
    }

    func serverLimits(of server: Instance) async throws -> QuotaLimits {
        try await serverLimits(of: server.projectID, server.userID)
    }
}
