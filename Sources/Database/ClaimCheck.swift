internal import FoundationEssentials
internal import Model
internal import SQL

/// Compares what hosts say that they have promised with the instances that are on them: claims without an instance, and
/// instances without a claim, by their vCPUs.
///
/// The claims themselves are the hosts', and their word of them comes later than the record's change. So only a host is
/// looked at that is up, and about which nothing has changed, and no task is under way, for `patience`.
struct ClaimCheck {
    static let patience = Duration.seconds(120)

    /// What instances may take of a host at least and at most: a move that is not decided holds both of its places.
    private struct Demand {
        var least = 0
        var most = 0
    }

    private var demands: [HostName: Demand] = [:]
    private var restless: Set<HostName> = []
    private let now: Timestamp
    private let connection: SQLConnection

    init(_ connection: SQLConnection, now: Timestamp) throws {
        (self.connection, self.now) = (connection, now)
        try readTasks()
        restless.formUnion(
            try connection.query("SELECT DISTINCT source_host FROM evacuations") { HostName($0.text(0)) })
    }

    /// The tasks that are about hosts which their instances' records do not name.
    private mutating func readTasks() throws {
        var hosts: Set<HostName> = []
        try connection.forEach(
            "SELECT state FROM tasks WHERE finished_at IS NULL AND kind IN ('cleanup', 'release', 'leave')"
        ) { row in
            hosts.insert(try JSONDecoder().decode(CleanupTaskState.self, from: Data(row.blob(0))).host)
        }
        restless.formUnion(hosts)
    }

    /// Takes note of an instance, deleted ones included.
    mutating func add(_ instance: Instance) {
        var hosts = instance.move?.hosts(besides: nil) ?? []
        if let host = instance.host { hosts.insert(host) }
        guard now.since(instance.updatedAt) >= Self.patience, instance.taskState == nil else {
            return restless.formUnion(hosts)
        }
        guard instance.deletedAt == nil else { return }
        let size = instance.flavor.vcpus
        for host in hosts {
            let former = instance.move.map { max(size, $0.formerFlavor.vcpus) } ?? 0
            demands[host, default: Demand()].most += size + former
        }
        if let host = instance.host, instance.move == nil, instance.vmState != .error {
            demands[host, default: Demand()].least += size
        }
    }

    /// The findings about one host.
    func findings(_ report: HostReport) throws -> [DatabaseFinding] {
        guard !restless.contains(report.host), try isUp(report.host) else { return [] }
        let demand = demands[report.host] ?? Demand()
        let promised = report.used.vcpus - report.reserved.vcpus
        func finding(_ rule: String, _ number: Int) -> [DatabaseFinding] {
            [
                DatabaseFinding(
                    rule: rule, subject: report.host.rawValue,
                    message:
                        "host \(report.host) says that it has promised \(promised) vCPUs, its instances take \(number)")
            ]
        }
        if promised > demand.most { return finding("claims-without-instance", demand.most) }
        if promised < demand.least { return finding("instance-without-claim", demand.least) }
        return []
    }

    private func isUp(_ host: HostName) throws -> Bool {
        let seen = try connection.first(
            "SELECT last_seen_at FROM services WHERE host = ? AND binary_name = 'nova-compute'", [.text(host.rawValue)]
        ) { $0.int64OrNil(0) }
        guard let seen, let seen else { return false }
        return now.since(Timestamp(microseconds: seen)) < Self.patience / 2
    }
}
