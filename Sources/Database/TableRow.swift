internal import Crypto
internal import Model
internal import SQL

/// One row of a table as a line of a copy: `["instances",["8d3d…",1,null,{"blob":"AAE="}]]`.
struct TableRow: Sendable, Hashable {
    var table: String
    var values: [SQLValue]

    init(table: String, values: [SQLValue]) { (self.table, self.values) = (table, values) }

    /// Without line feed.
    var line: String {
        let list = values.map { value -> JSON in
            switch value {
            case .null: .null
            case .integer(let number): .integer(number)
            case .real(let number): .number(number)
            case .text(let text): .string(text)
            case .blob(let bytes): ["blob": .string(Base64.encode(bytes))]
            }
        }
        return String(decoding: JSON.array([.string(table), .array(list)]).serialized(), as: UTF8.self)
    }

    /// Throws `.invalidParameters` for what is no such line.
    init(parsing json: JSON) throws(Failure) {
        guard let parts = json.list, parts.count == 2, let table = parts[0].text, let list = parts[1].list else {
            throw Failure(.invalidParameters, "a line is no row of a table")
        }
        var values: [SQLValue] = []
        for value in list {
            switch value {
            case .null: values.append(.null)
            case .integer(let number): values.append(.integer(number))
            case .number(let number): values.append(.real(number))
            case .string(let text): values.append(.text(text))
            default:
                guard let members = value.members, members.count == 1,
                    let bytes = members["blob"]?.text.flatMap({ Base64.decode($0) })
                else { throw Failure(.invalidParameters, "a row of \(table) has a value that is none") }
                values.append(.blob(bytes))
            }
        }
        (self.table, self.values) = (table, values)
    }
}
