internal import Database
internal import Model

/// Whether more servers of one flavor fit into a project's quota. Usage is counted, not kept.
struct QuotaCheck {
    let quotas: APISettings.Quotas
    let usage: InstanceStore.Usage
    let flavor: Flavor

    private var resources: [(name: String, limit: Int, used: Int, each: Int)] {
        [
            ("instances", quotas.instances, usage.instances, 1), ("cores", quotas.cores, usage.cores, flavor.vcpus),
            ("ram", quotas.memoryMiB, usage.memoryMiB, flavor.memoryMiB),
        ]
    }

    /// How many fit at most.
    var headroom: Int {
        resources.filter { $0.limit >= 0 && $0.each > 0 }.map { max(0, $0.limit - $0.used) / $0.each }.min() ?? .max
    }

    /// Throws 403 naming what is short, unless `count` more fit.
    func require(_ count: Int) throws(APIError) {
        let short = resources.filter { $0.limit >= 0 && $0.used + $0.each * count > $0.limit }
        guard !short.isEmpty else { return }
        let names = short.map(\.name).joined(separator: ", ")
        let asked = short.map { String($0.each * count) }.joined(separator: ", ")
        let used = short.map { String($0.used) }.joined(separator: ", ")
        let limits = short.map { String($0.limit) }.joined(separator: ", ")
        throw .forbidden(
            "Quota exceeded for \(names): Requested \(asked), but already used \(used) of \(limits) \(names)")
    }
}
