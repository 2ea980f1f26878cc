#if PostgreSQL
    internal import SQL

    /// The values of one statement as libpq takes them: text, and bytes as they are. The server knows the types, by where
    /// the values stand; so one prepared statement serves a text, whether a value is NULL or not.
    struct Parameters {
        /// What the protocol allows.
        static let limit = 65_535

        private var content: [UInt8] = []
        private var offsets: [Int?] = []
        private var lengths: [Int32] = []
        private var formats: [Int32] = []

        /// Throws `.unstorable` for a text with a NUL, `.misuse` for what is larger than a column can be.
        init(_ values: [SQLValue], sql: String) throws(SQLError) {
            for value in values {
                switch value {
                case .null:
                    offsets.append(nil)
                    lengths.append(0)
                    formats.append(0)
                case .integer(let number): append(String(number).utf8, format: 0)
                case .real(let number): append("\(number)".utf8, format: 0)
                case .text(let text):
                    guard !text.utf8.contains(0) else {
                        throw SQLError(.unstorable, "a text holds a character that the database cannot keep", sql: sql)
                    }
                    append(text.utf8, format: 0)
                case .blob(let bytes): append(bytes, format: 1)
                }
                guard content.count < 1_000_000_000 else {
                    throw SQLError(.misuse, "values of more than \(content.count) bytes", sql: sql)
                }
            }
        }

        private mutating func append(_ bytes: some Collection<UInt8>, format: Int32) {
            offsets.append(content.count)
            lengths.append(Int32(clamping: bytes.count))
            formats.append(format)
            content += bytes
            content.append(0)
        }

        var count: Int { offsets.count }

        /// Calls `body` with the values, their lengths and their formats.
        func withPointers<T>(
            _ body: (UnsafePointer<UnsafePointer<CChar>?>?, UnsafePointer<Int32>?, UnsafePointer<Int32>?) -> T
        ) -> T {
            content.withUnsafeBytes { bytes in
                let start = bytes.baseAddress?.assumingMemoryBound(to: CChar.self)
                let pointers = offsets.map { offset -> UnsafePointer<CChar>? in
                    guard let offset, let start else { return nil }
                    return start + offset
                }
                return pointers.withUnsafeBufferPointer { values in
                    lengths.withUnsafeBufferPointer { lengths in
                        formats.withUnsafeBufferPointer { formats in
                            body(values.baseAddress, lengths.baseAddress, formats.baseAddress)
                        }
                    }
                }
            }
        }
    }
#endif
