#if PostgreSQL
    internal import CPostgreSQL
    internal import SQL

    /// Owns one result; as a row, the row at which it stands.
    ///
    /// Values come as text: the conversions that `SQLRow` promises are then those of text, whatever the column's type, and a sum
    /// of BIGINT, which PostgreSQL gives as NUMERIC, is no case of its own.
    final class ServerResult: SQLRowSource {
        private let pointer: OpaquePointer
        private var current: Int32 = 0

        /// Takes over a result the caller owns.
        init(owning pointer: OpaquePointer) { self.pointer = pointer }

        deinit { PQclear(pointer) }

        var rowCount: Int32 { PQntuples(pointer) }

        func stand(at row: Int32) { current = row }

        /// The first word of what the server says it did: `SELECT`, `UPDATE`, `COMMIT`, `ROLLBACK` …
        var command: Substring {
            guard let text = PQcmdStatus(pointer) else { return "" }
            return String(cString: text).prefix { $0 != " " }
        }

        /// How many rows a statement changed; 0 for one that only reads.
        var changedRows: Int {
            guard command != "SELECT", let text = PQcmdTuples(pointer) else { return 0 }
            return Int(String(cString: text)) ?? 0
        }

        /// What the server complained of; `nil` when it did not.
        func error(sql: String?) -> SQLError? {
            switch PQresultStatus(pointer) {
            case PGRES_COMMAND_OK, PGRES_TUPLES_OK: return nil
            case PGRES_EMPTY_QUERY: return SQLError(.misuse, "the text holds no statement", sql: sql)
            case PGRES_FATAL_ERROR:
                let state = field(UInt8(ascii: "C")) ?? ""
                return SQLError(state: state, message: field(UInt8(ascii: "M")) ?? "the server failed", sql: sql)
            default: return SQLError(.misuse, "a statement that copies is not for here", sql: sql)
            }
        }

        private func field(_ code: UInt8) -> String? {
            PQresultErrorField(pointer, Int32(code)).map { String(cString: $0) }
        }

        // MARK: The row

        func isNull(_ column: Int) -> Bool { PQgetisnull(pointer, current, Int32(column)) != 0 }

        private func bytes(_ column: Int) -> UnsafeRawBufferPointer {
            let count = Int(PQgetlength(pointer, current, Int32(column)))
            return UnsafeRawBufferPointer(start: PQgetvalue(pointer, current, Int32(column)), count: count)
        }

        func text(_ column: Int) -> String { String(decoding: bytes(column), as: UTF8.self) }

        func int64(_ column: Int) -> Int64 {
            let text = text(column)
            if let number = Int64(text) { return number }
            if text == "t" { return 1 }
            return Int64(exactly: double(column).rounded(.towardZero)) ?? 0
        }

        func double(_ column: Int) -> Double { Double(text(column)) ?? 0 }

        func value(_ column: Int) -> SQLValue {
            guard !isNull(column) else { return .null }
            return switch PQftype(pointer, Int32(column)) {
            case Self.bool, Self.int2, Self.int4, Self.int8: .integer(int64(column))
            case Self.float4, Self.float8, Self.numeric: .real(double(column))
            case Self.bytea: .blob(blob(column))
            default: .text(text(column))
            }
        }

        func blob(_ column: Int) -> [UInt8] {
            let bytes = bytes(column)
            guard PQftype(pointer, Int32(column)) == Self.bytea else { return Array(bytes) }
            // `\x` and two digits a byte: every session sets `bytea_output`.
            guard bytes.count >= 2 else { return [] }
            return stride(from: 2, to: bytes.count - 1, by: 2).map { digit(bytes[$0]) << 4 | digit(bytes[$0 + 1]) }
        }

        // The types' numbers, fixed in every server.
        private static let bool: Oid = 16
        private static let bytea: Oid = 17
        private static let int8: Oid = 20
        private static let int2: Oid = 21
        private static let int4: Oid = 23
        private static let float4: Oid = 700
        private static let float8: Oid = 701
        private static let numeric: Oid = 1700
    }

    private func digit(_ character: UInt8) -> UInt8 {
        character > UInt8(ascii: "9") ? (character | 0x20) - UInt8(ascii: "a") + 10 : character - UInt8(ascii: "0")
    }
#endif
