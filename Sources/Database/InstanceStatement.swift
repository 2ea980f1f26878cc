internal import Model
internal import SQL

/// The SQL of one list of instances. Every value is bound; only column names of our own are written into the text.
struct InstanceStatement {
    private var conditions: [String] = []
    private var values: [SQLValue] = []
    private let sort: [(key: InstanceQuery.SortKey, ascending: Bool)]

    init(_ query: InstanceQuery) {
        // The id makes every order total, so that a marker has one place in it.
        sort = query.sort.contains { $0.key == .id } ? query.sort : query.sort + [(.id, false)]
        add("project_id = ?", query.projectID.map { .text($0.rawValue) })
        add("user_id = ?", query.userID.map { .text($0.rawValue) })
        add("host = ?", query.host.map { .text($0.rawValue) })
        add("image_id = ?", query.imageID.map { .text($0.rawValue) })
        add("flavor_id = ?", query.flavorID.map { .text($0.rawValue) })
        add("reservation_id = ?", query.reservationID.map { .text($0) })
        add("updated_at >= ?", query.changedSince.map { .integer($0.microseconds) })
        add("updated_at <= ?", query.changedBefore.map { .integer($0.microseconds) })
        if !query.vmStates.isEmpty {
            let places = query.vmStates.map { _ in "?" }.joined(separator: ", ")
            conditions.append("vm_state IN (\(places))")
            values += query.vmStates.map { .text($0.rawValue) }
        }
        switch query.deleted {
        case .excluded: conditions.append("deleted_at IS NULL")
        case .only: conditions.append("deleted_at IS NOT NULL")
        case .included: break
        }
    }

    private mutating func add(_ condition: String, _ value: SQLValue?) {
        guard let value else { return }
        conditions.append(condition)
        values.append(value)
    }

    /// Restricts the list to what follows `marker` in the sort order.
    mutating func begin(after marker: Instance) {
        var alternatives: [String] = []
        var bound: [SQLValue] = []
        var equal: [String] = []
        var equalValues: [SQLValue] = []
        for (key, ascending) in sort {
            let column = Self.column(key)
            let value = Self.value(key, marker)
            alternatives.append(
                "(" + (equal + ["\(column) \(ascending ? ">" : "<") ?"]).joined(separator: " AND ") + ")")
            bound += equalValues + [value]
            equal.append("\(column) = ?")
            equalValues.append(value)
        }
        conditions.append("(" + alternatives.joined(separator: " OR ") + ")")
        values += bound
    }

    func text(limit: Int, offset: Int) -> (sql: String, values: [SQLValue]) {
        let filter = conditions.isEmpty ? "" : " WHERE " + conditions.joined(separator: " AND ")
        let order = sort.map { Self.column($0.key) + ($0.ascending ? " ASC" : " DESC") }.joined(separator: ", ")
        return (
            "SELECT record FROM instances\(filter) ORDER BY \(order) LIMIT ? OFFSET ?",
            values + [SQLValue(limit), SQLValue(offset)]
        )
    }

    /// NULL has no place in a comparison, so columns that can hold it are sorted as text.
    private static func column(_ key: InstanceQuery.SortKey) -> String {
        switch key {
        case .host: "COALESCE(host, '')"
        case .taskState: "COALESCE(task_state, '')"
        // Within a text of the record the quotes would be escaped.
        case .locked: "CASE WHEN record LIKE '%\"lock\":{%' THEN 1 ELSE 0 END"
        default: key.rawValue
        }
    }

    private static func value(_ key: InstanceQuery.SortKey, _ instance: Instance) -> SQLValue {
        switch key {
        case .createdAt: .integer(instance.createdAt.microseconds)
        case .updatedAt: .integer(instance.updatedAt.microseconds)
        case .name: .text(instance.name)
        case .id: .text(instance.id.rawValue)
        case .host: .text(instance.host?.rawValue ?? "")
        case .vmState: .text(instance.vmState.rawValue)
        case .taskState: .text(instance.taskState?.rawValue ?? "")
        case .locked: .integer(instance.lock == nil ? 0 : 1)
        }
    }
}
