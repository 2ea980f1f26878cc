#if PostgreSQL
    internal import CPostgreSQL
    internal import SQL

    /// Where the server is and who asks, as libpq's keywords and their values.
    struct ServerAddress: Sendable {
        /// In the order of the URL; never printed, for a value may be secret.
        let parameters: [(keyword: String, value: String)]

        /// What a URL may leave out. A server that is gone shall be noticed within half a minute, also by a connection
        /// that waits for an answer.
        private static let defaults = [
            ("connect_timeout", "5"), ("keepalives_idle", "10"), ("keepalives_interval", "5"),
            ("keepalives_count", "3"),
            ("tcp_user_timeout", "25000"), ("application_name", "apus"),
        ]

        /// Reads `postgresql://user@host:port/database?keyword=value`, with the keywords of libpq: `passfile`, `sslmode` …
        ///
        /// Throws `.cannotOpen` for a text that is none; the error never repeats it, because it may hold a password.
        init(url: String) throws(SQLError) {
            guard url.hasPrefix("postgresql://") || url.hasPrefix("postgres://") else {
                throw SQLError(.cannotOpen, "the address of a PostgreSQL database is postgresql://USER@HOST/DATABASE")
            }
            var complaint: UnsafeMutablePointer<CChar>?
            guard let options = PQconninfoParse(url, &complaint) else {
                PQfreemem(complaint)
                throw SQLError(
                    .cannotOpen,
                    "the address of the PostgreSQL database cannot be read: a keyword or an escape is wrong")
            }
            defer { PQconninfoFree(options) }
            var found: [(keyword: String, value: String)] = []
            var option = options
            while let keyword = option.pointee.keyword {
                if let value = option.pointee.val {
                    found.append((String(cString: keyword), String(cString: value)))
                }
                option += 1
            }
            for (keyword, value) in Self.defaults
            where !found.contains(where: { $0.keyword == keyword }) {
                found.append((keyword, value))
            }
            // A URL is shown with the configuration and may be in a file that others read.
            guard !found.contains(where: { $0.keyword.hasSuffix("password") }) else {
                throw SQLError(
                    .cannotOpen,
                    "the address of a PostgreSQL database must not hold a password: name a file of libpq's format with "
                        + "?passfile=PATH")
            }
            // Ours, whatever the URL says: everything here is UTF-8.
            found.removeAll { $0.keyword == "client_encoding" }
            found.append(("client_encoding", "UTF8"))
            parameters = found
        }

        /// Connects. Blocks for `connect_timeout` for each address of the host at most. The result is never `nil` but for want
        /// of memory; it belongs to the caller, also when the connection failed.
        func connect() -> OpaquePointer? {
            withCStrings(parameters.map { $0.keyword }) { keywords in
                withCStrings(parameters.map { $0.value }) { values in PQconnectdbParams(keywords, values, 0) }
            }
        }
    }
#endif
