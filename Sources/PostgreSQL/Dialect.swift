#if PostgreSQL
    /// From the dialect of the stores to PostgreSQL's.
    enum Dialect {
        /// A statement with `$1`, `$2`, … for each `?` in turn, and how many there are. What stands in strings, quoted names
        /// and comments stays as it is.
        static func statement(_ sql: String) -> (text: String, parameters: Int) {
            var scanner = SQLScanner(sql)
            var text: [UInt8] = []
            var parameters = 0
            while let piece = scanner.next() {
                if piece.kind == .placeholder {
                    parameters += 1
                    text += Array("$\(parameters)".utf8)
                } else {
                    text += piece.text
                }
            }
            return (String(decoding: text, as: UTF8.self), parameters)
        }

        /// A migration with PostgreSQL's names for the types of columns.
        ///
        /// Text is compared by its bytes, as in SQLite: an order by the server's language would differ from one server to the
        /// next, and an index would be wrong after an update of its C library.
        static func schema(_ sql: String) -> String {
            var scanner = SQLScanner(sql)
            var text: [UInt8] = []
            while let piece = scanner.next() {
                if piece.kind == .word, let other = type(String(decoding: piece.text, as: UTF8.self).uppercased()) {
                    text += Array(other.utf8)
                } else {
                    text += piece.text
                }
            }
            return String(decoding: text, as: UTF8.self)
        }

        private static func type(_ word: String) -> String? {
            switch word {
            case "BLOB": "BYTEA"
            case "TEXT": "TEXT COLLATE \"C\""
            default: nil
            }
        }
    }
#endif
