internal import Crypto
internal import Model
internal import SQL
internal import Synchronization

/// How many rows of a table a copy has, and the digest of them.
public struct TableSum: Sendable, Hashable {
    public var table: String
    public var rows: Int
    /// SHA-256 of the rows' lines in the order of the primary key, lower-case hex.
    public var sha256: String
}

/// A whole database as lines of JSON: a header with the schemas' versions, each table's rows followed by their sum, and an
/// end. A copy holds every secret of the control plane.
extension ControlDatabase {
    private static let format = 1

    /// Gives every line of a copy to `write`, all of one moment. Whoever writes meanwhile goes on.
    public func export(_ write: @escaping @Sendable (String) throws -> Void) async throws -> [TableSum] {
        let once = Once()
        return try await database.read { connection in
            try once.enter()
            let versions = try SchemaVersions(connection).found
            let header: JSON = [
                "apus_copy": .integer(Int64(Self.format)),
                "schemas": .object(versions.mapValues { .integer(Int64($0)) }),
            ]
            try write(String(decoding: header.serialized(), as: UTF8.self))
            var sums: [TableSum] = []
            for shape in try Self.copied(connection) {
                let sum = try Self.sum(shape, connection, write)
                try write(Self.line(of: sum))
                sums.append(sum)
            }
            try write(#"{"end":true}"#)
            return sums
        }
    }

    /// Replaces what is in this database, which nobody has used yet, by a copy: all of it or nothing.
    ///
    /// - Parameter next: the copy's lines, one after the other; `nil` after the last.
    /// - Throws: `Failure`: `.conflict` when this database has users, hosts, images or instances, or its schemas are of
    ///   other versions than the copy's; `.invalidParameters` for lines that are no copy, a copy without end, and rows
    ///   that are not what the sums say, in the copy or in this database after the last.
    public func importCopy(_ next: @escaping @Sendable () throws -> String?) async throws -> [TableSum] {
        let once = Once()
        return try await database.write { connection in
            try once.enter()
            try Self.requireUnused(connection)
            try Self.readHeader(try next(), connection)
            let shapes = Dictionary(
                uniqueKeysWithValues: try Self.copied(connection).map { ($0.name, $0) })
            for name in shapes.keys { try connection.execute("DELETE FROM \(name)") }
            var sums: [TableSum] = []
            while let line = try next() {
                let json = try Self.parsed(line)
                if json["end"] != nil {
                    guard Set(sums.map(\.table)) == Set(shapes.keys) else {
                        throw Failure(.invalidParameters, "the copy has not every table")
                    }
                    try Self.compare(sums, shapes, connection)
                    return sums
                }
                if let name = json["table"]?.text {
                    sums.append(try Self.readSum(json, name, shapes))
                    continue
                }
                let row = try TableRow(parsing: json)
                guard let shape = shapes[row.table], shape.columns.count == row.values.count else {
                    throw Failure(.invalidParameters, "the copy has a row that \(row.table.prefix(64)) cannot have")
                }
                try connection.execute(shape.insertion, row.values)
            }
            throw Failure(.invalidParameters, "the copy breaks off before its end")
        }
    }

    /// Ends a transaction that is run a second time: the lines of a copy come and go only once.
    private final class Once: Sendable {
        private let isEntered = Atomic(false)

        func enter() throws(Failure) {
            guard !isEntered.exchange(true, ordering: .relaxed) else {
                throw Failure(.storage, "the database was lost on the way: begin again", isRetriable: true)
            }
        }
    }

    /// The tables of a copy: all but the schemas' own.
    private static func copied(_ connection: SQLConnection) throws -> [TableShape] {
        try connection.tables().filter { $0.name != "schema_versions" }
    }

    private static func sum(
        _ shape: TableShape, _ connection: SQLConnection, _ write: (String) throws -> Void
    ) throws -> TableSum {
        var digest = Digest(.sha256)
        var rows = 0
        try connection.forEach(shape.selection) { row in
            let line = TableRow(table: shape.name, values: shape.columns.indices.map { row.value($0) }).line
            try write(line)
            digest.update(Array((line + "\n").utf8))
            rows += 1
        }
        return TableSum(table: shape.name, rows: rows, sha256: Hex.encode(digest.finish()))
    }

    private static func line(of sum: TableSum) -> String {
        let json: JSON = [
            "table": .string(sum.table), "rows": .integer(Int64(sum.rows)), "sha256": .string(sum.sha256),
        ]
        return String(decoding: json.serialized(), as: UTF8.self)
    }

    private static func parsed(_ line: String) throws(Failure) -> JSON {
        do throws(JSONError) {
            return try JSON(parsing: Array(line.utf8))
        } catch {
            throw Failure(.invalidParameters, "the copy has a line that is no JSON: \(error)")
        }
    }

    private static func readSum(
        _ json: JSON, _ name: String, _ shapes: [String: TableShape]
    ) throws(Failure) -> TableSum {
        guard shapes[name] != nil, let rows = json["rows"]?.int, let sha256 = json["sha256"]?.text else {
            throw Failure(.invalidParameters, "the copy has a table \(name.prefix(64)) that this program does not know")
        }
        return TableSum(table: name, rows: rows, sha256: sha256)
    }

    private static func compare(
        _ sums: [TableSum], _ shapes: [String: TableShape], _ connection: SQLConnection
    ) throws {
        for wanted in sums {
            guard let shape = shapes[wanted.table] else { continue }
            let found = try sum(shape, connection) { _ in }
            guard found == wanted else {
                throw Failure(
                    .invalidParameters,
                    "\(wanted.table) has \(found.rows) rows with the sum \(found.sha256), the copy says \(wanted.rows) rows "
                        + "with \(wanted.sha256)")
            }
        }
    }

    private static func requireUnused(_ connection: SQLConnection) throws {
        for table in ["instances", "hosts", "images", "identity_users"] {
            let isUsed = try connection.first("SELECT 1 FROM \(table) LIMIT 1", [], { $0.int(0) }) != nil
            guard !isUsed else {
                throw Failure(.conflict, "the database is in use: it has \(table). Give one that is new")
            }
        }
    }

    private static func readHeader(_ line: String?, _ connection: SQLConnection) throws {
        guard let line, let header = try? parsed(line), header["apus_copy"]?.int == format,
            let schemas = header["schemas"]?.members
        else { throw Failure(.invalidParameters, "this is no copy of a database, or one of another format") }
        let own = try SchemaVersions(connection).found
        let given = schemas.compactMapValues(\.int)
        guard given == own else {
            let names = Set(given.keys).union(own.keys).filter { given[$0] != own[$0] }.sorted()
            let text = names.map {
                "\($0) \(given[$0].map(String.init) ?? "none"), here \(own[$0].map(String.init) ?? "none")"
            }
            throw Failure(
                .conflict,
                "the copy's schemas are of other versions: \(text.joined(separator: "; ")). Bring both to one release")
        }
    }
}
