#if PostgreSQL
    internal import SQL

    extension SQLError {
        /// The error for an SQLSTATE. Messages of class 22 repeat the value that does not fit: they stay behind.
        init(state: String, message: String, sql: String?) {
            self.init(
                Self.code(state), state.hasPrefix("22") ? "a value does not fit (\(state))" : message, sql: sql)
        }

        private static func code(_ state: String) -> Code {
            switch state {
            case "40001", "40P01": .serialization
            case "40003": .outcomeUnknown
            case "55P03": .busy
            case "57014": .timeout
            case "23505": .constraint(.unique)
            case "23503": .constraint(.foreignKey)
            case "23502": .constraint(.notNull)
            case "23514": .constraint(.check)
            case "22021", "22P05": .unstorable
            case "25006": .readOnly
            case "53100": .full
            // Shut down, crashed, starting, or without a free place: another attempt may be luckier.
            case "57P01", "57P02", "57P03", "57P05", "53300", "25P03": .connectionLost
            case "3D000": .cannotOpen
            case "XX001", "XX002": .corrupt
            default:
                switch state.prefix(2) {
                case "08": .connectionLost
                case "23": .constraint(.other)
                case "28": .cannotOpen
                case "25", "42": .misuse
                default: .other(state)
                }
            }
        }
    }
#endif
