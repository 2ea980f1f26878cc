public import Model
internal import SQL
internal import Synchronization
internal import Telemetry

/// All aggregates at one moment, and where each host is.
public struct AggregateTable: Sendable {
    /// Rises with each change of any aggregate.
    public var revision: Int64
    /// By id.
    public var aggregates: [Aggregate]
    /// The zone of each host that is in an aggregate with one.
    public var zones: [HostName: String]
    /// The uuids of the aggregates that each host is in, in the aggregates' order.
    public var memberships: [HostName: [String]]

    init(revision: Int64, aggregates: [Aggregate]) {
        (self.revision, self.aggregates, zones, memberships) = (revision, aggregates, [:], [:])
        for aggregate in aggregates {
            for host in aggregate.hosts { memberships[host, default: []].append(aggregate.uuid) }
            guard let zone = aggregate.availabilityZone else { continue }
            for host in aggregate.hosts { zones[host] = zone }
        }
    }
}

/// Why an aggregate cannot be what it was to become.
public enum AggregateError: Error, Sendable, Hashable {
    /// The host is in another zone already: it can be in one only.
    case otherZone(HostName, zone: String)
    /// Servers run on the host, which would come to be in another zone than they are.
    case hasServers(HostName, count: Int)
    /// It still has hosts.
    case notEmpty(count: Int)
    case hostExists(HostName)
    case hostNotFound(HostName)
}

/// The host aggregates.
public struct AggregateStore: Sendable {
    let database: any SQLDatabase
    private let cache = Cache()

    /// What was read last: thousands of hosts may be in aggregates, and each list of servers shows zones.
    private final class Cache: Sendable {
        let table = Mutex<AggregateTable?>(nil)
    }

    static let component = "aggregates"

    static let migrations: [Migration] = [
        Migration(
            version: 1,
            sql: """
                INSERT INTO counters (name, value) VALUES ('aggregate_id', 0), ('aggregate_revision', 0);
                CREATE TABLE aggregates (
                    id BIGINT PRIMARY KEY, uuid TEXT NOT NULL UNIQUE, name TEXT NOT NULL UNIQUE, metadata TEXT NOT NULL,
                    created_at BIGINT NOT NULL, updated_at BIGINT);
                CREATE TABLE aggregate_hosts (
                    aggregate_id BIGINT NOT NULL, host TEXT NOT NULL, position BIGINT NOT NULL,
                    PRIMARY KEY (aggregate_id, host));
                CREATE INDEX aggregate_hosts_by_host ON aggregate_hosts (host);
                """)
    ]

    init(database: any SQLDatabase) { self.database = database }

    /// All aggregates; one look at a number where nothing has changed since the last call.
    public func table() async throws -> AggregateTable {
        let known = cache.table.withLock { $0 }
        let read = try await database.read { connection -> AggregateTable? in
            let revision =
                try connection.first("SELECT value FROM counters WHERE name = 'aggregate_revision'", []) {
                    $0.int64(0)
                } ?? 0
            if known?.revision == revision { return nil }
            return AggregateTable(revision: revision, aggregates: try Self.all(connection))
        }
        guard let read else { return known ?? AggregateTable(revision: 0, aggregates: []) }
        return cache.table.withLock { table in
            // Of two readers at once the one that saw more is right.
            if let newer = table, newer.revision > read.revision { return newer }
            table = read
            return read
        }
    }

    public func find(_ id: Int64) async throws -> Aggregate? {
        try await database.read { try Self.find(id, $0) }
    }

    /// Throws `.exists` when the name is taken.
    public func create(
        name: String, uuid: String, availabilityZone: String?, now: Timestamp
    ) async throws -> Aggregate {
        let requestID = RequestScope.current
        return try await database.write { connection in
            try Self.requireFree(name, connection)
            let aggregate = Aggregate(
                id: try Counter.aggregateID.next(connection), uuid: uuid, name: name,
                metadata: availabilityZone.map { [Aggregate.zoneKey: $0] } ?? [:], createdAt: now)
            try connection.execute(
                "INSERT INTO aggregates (id, uuid, name, metadata, created_at) VALUES (?, ?, ?, ?, ?)",
                [
                    .integer(aggregate.id), .text(uuid), .text(name), .text(try Record.encode(aggregate.metadata)),
                    .integer(now.microseconds),
                ])
            _ = try Counter.aggregateRevision.next(connection)
            let notification = AggregateNotification(aggregate: aggregate, requestID: requestID)
            for phase in [AggregateNotification.Phase.start, .end] {
                try notification.append(.create, phase, now: now, connection)
            }
            return aggregate
        }
    }

    /// Changes the name and sets metadata; a value that is `nil` is removed. Throws `.notFound`, `.exists`,
    /// `AggregateError` when its hosts could not be in the zone that it is given.
    public func update(
        _ id: Int64, name: String? = nil, metadata: [String: String?] = [:], defaultZone: String, now: Timestamp
    ) async throws -> Aggregate {
        let requestID = RequestScope.current
        let change = metadata.isEmpty ? AggregateNotification.Change.updateProperties : .updateMetadata
        return try await database.write { connection in
            var aggregate = try Self.require(id, connection)
            try AggregateNotification(aggregate: aggregate, requestID: requestID)
                .append(change, .start, now: now, connection)
            let before = aggregate.availabilityZone
            if let name, name != aggregate.name {
                try Self.requireFree(name, connection)
                aggregate.name = name
            }
            for (key, value) in metadata { aggregate.metadata[key] = value }
            if aggregate.availabilityZone != before {
                for host in aggregate.hosts {
                    try Self.requireMove(
                        of: host, to: aggregate.availabilityZone, besides: id, defaultZone, connection)
                }
            }
            try Self.store(&aggregate, now, connection)
            try AggregateNotification(aggregate: aggregate, requestID: requestID)
                .append(change, .end, now: now, connection)
            return aggregate
        }
    }

    /// Throws `.notFound`, `AggregateError.notEmpty`.
    public func delete(_ id: Int64) async throws {
        let (requestID, now) = (RequestScope.current, database.now())
        try await database.write { connection in
            let aggregate = try Self.require(id, connection)
            guard aggregate.hosts.isEmpty else { throw AggregateError.notEmpty(count: aggregate.hosts.count) }
            try connection.execute("DELETE FROM aggregates WHERE id = ?", [.integer(id)])
            _ = try Counter.aggregateRevision.next(connection)
            let notification = AggregateNotification(aggregate: aggregate, requestID: requestID)
            for phase in [AggregateNotification.Phase.start, .end] {
                try notification.append(.delete, phase, now: now, connection)
            }
        }
    }

    /// Throws `.notFound`, `AggregateError`.
    public func add(_ host: HostName, to id: Int64, defaultZone: String, now: Timestamp) async throws -> Aggregate {
        let requestID = RequestScope.current
        return try await database.write { connection in
            var aggregate = try Self.require(id, connection)
            guard !aggregate.hosts.contains(host) else { throw AggregateError.hostExists(host) }
            try AggregateNotification(aggregate: aggregate, requestID: requestID)
                .append(.addHost, .start, now: now, connection)
            if let zone = aggregate.availabilityZone {
                try Self.requireMove(of: host, to: zone, besides: id, defaultZone, connection)
            }
            aggregate.hosts.append(host)
            try connection.execute(
                """
                INSERT INTO aggregate_hosts (aggregate_id, host, position)
                SELECT ?, ?, COALESCE(MAX(position), 0) + 1 FROM aggregate_hosts WHERE aggregate_id = ?
                """, [.integer(id), .text(host.rawValue), .integer(id)])
            try Self.store(&aggregate, now, connection)
            try AggregateNotification(aggregate: aggregate, requestID: requestID)
                .append(.addHost, .end, now: now, connection)
            return aggregate
        }
    }

    /// Throws `.notFound`, `AggregateError`.
    public func remove(_ host: HostName, from id: Int64, defaultZone: String, now: Timestamp) async throws -> Aggregate
    {
        let requestID = RequestScope.current
        return try await database.write { connection in
            var aggregate = try Self.require(id, connection)
            guard aggregate.hosts.contains(host) else { throw AggregateError.hostNotFound(host) }
            try AggregateNotification(aggregate: aggregate, requestID: requestID)
                .append(.removeHost, .start, now: now, connection)
            if aggregate.availabilityZone != nil {
                try Self.requireMove(of: host, to: nil, besides: id, defaultZone, connection)
            }
            aggregate.hosts.removeAll { $0 == host }
            try connection.execute(
                "DELETE FROM aggregate_hosts WHERE aggregate_id = ? AND host = ?",
                [.integer(id), .text(host.rawValue)])
            try Self.store(&aggregate, now, connection)
            try AggregateNotification(aggregate: aggregate, requestID: requestID)
                .append(.removeHost, .end, now: now, connection)
            return aggregate
        }
    }

    /// Takes a host that is gone out of all aggregates.
    public func forget(_ host: HostName, now: Timestamp) async throws {
        try await database.write { connection in
            let gone = try connection.execute(
                "DELETE FROM aggregate_hosts WHERE host = ?", [.text(host.rawValue)])
            if gone > 0 { _ = try Counter.aggregateRevision.next(connection) }
        }
    }

    // MARK: - Within a transaction

    /// A host is in one zone at most, and with servers on it stays in the one that it is in.
    private static func requireMove(
        of host: HostName, to zone: String?, besides id: Int64, _ defaultZone: String, _ connection: SQLConnection
    ) throws {
        let aggregates = try connection.query(
            """
            SELECT a.id, a.metadata FROM aggregates a JOIN aggregate_hosts h ON h.aggregate_id = a.id
            WHERE h.host = ? ORDER BY a.id
            """, [.text(host.rawValue)]
        ) { ($0.int64(0), try Record.decode([String: String].self, $0.text(1))[Aggregate.zoneKey]) }
        let others = aggregates.filter { $0.0 != id }.compactMap(\.1)
        if let zone, let other = others.first(where: { $0 != zone }) {
            throw AggregateError.otherZone(host, zone: other)
        }
        let now = aggregates.compactMap(\.1).first ?? defaultZone
        guard now != zone ?? others.first ?? defaultZone else { return }
        let count = try connection.first(
            "SELECT COUNT(*) FROM instances WHERE host = ? AND deleted_at IS NULL", [.text(host.rawValue)]
        ) { $0.int(0) }
        if let count, count > 0 { throw AggregateError.hasServers(host, count: count) }
    }

    private static func requireFree(_ name: String, _ connection: SQLConnection) throws {
        let taken = try connection.first("SELECT id FROM aggregates WHERE name = ?", [.text(name)]) { $0.int64(0) }
        if taken != nil { throw StoreError.exists("Aggregate \(name)") }
    }

    private static func store(_ aggregate: inout Aggregate, _ now: Timestamp, _ connection: SQLConnection) throws {
        aggregate.updatedAt = now
        try connection.execute(
            "UPDATE aggregates SET name = ?, metadata = ?, updated_at = ? WHERE id = ?",
            [
                .text(aggregate.name), .text(try Record.encode(aggregate.metadata)), .integer(now.microseconds),
                .integer(aggregate.id),
            ])
        _ = try Counter.aggregateRevision.next(connection)
    }

    private static func require(_ id: Int64, _ connection: SQLConnection) throws -> Aggregate {
        guard let aggregate = try find(id, connection) else { throw StoreError.notFound("Aggregate \(id)") }
        return aggregate
    }

    private static let columns = "SELECT id, uuid, name, metadata, created_at, updated_at FROM aggregates"

    private static func record(_ row: borrowing SQLRow) throws -> Aggregate {
        Aggregate(
            id: row.int64(0), uuid: row.text(1), name: row.text(2),
            metadata: try Record.decode([String: String].self, row.text(3)),
            createdAt: Timestamp(microseconds: row.int64(4)),
            updatedAt: row.int64OrNil(5).map { Timestamp(microseconds: $0) })
    }

    private static func find(_ id: Int64, _ connection: SQLConnection) throws -> Aggregate? {
        guard var aggregate = try connection.first(columns + " WHERE id = ?", [.integer(id)], record) else {
            return nil
        }
        aggregate.hosts = try connection.query(
            "SELECT host FROM aggregate_hosts WHERE aggregate_id = ? ORDER BY position", [.integer(id)]
        ) { HostName($0.text(0)) }
        return aggregate
    }

    private static func all(_ connection: SQLConnection) throws -> [Aggregate] {
        var aggregates = try connection.query(columns + " ORDER BY id", [], record)
        let places = Dictionary(uniqueKeysWithValues: aggregates.indices.map { (aggregates[$0].id, $0) })
        let hosts = try connection.query(
            "SELECT aggregate_id, host FROM aggregate_hosts ORDER BY aggregate_id, position", []
        ) { ($0.int64(0), HostName($0.text(1))) }
        for (id, host) in hosts {
            if let place = places[id] { aggregates[place].hosts.append(host) }
        }
        return aggregates
    }
}
