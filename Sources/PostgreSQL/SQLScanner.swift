#if PostgreSQL
    /// Cuts a statement's text into the pieces that matter to a translation, without understanding it.
    struct SQLScanner {
        enum Kind {
            /// A string, a quoted name or a comment: nothing in it means anything.
            case verbatim
            /// A keyword, a name or a number.
            case word
            /// `?`
            case placeholder
            /// One byte of anything else.
            case other
        }

        private let bytes: [UInt8]
        private var position = 0
        /// Where the last word `e` ended: a string right behind it knows backslashes.
        private var escapeMark = -1

        init(_ text: String) { bytes = Array(text.utf8) }

        /// The next piece; `nil` at the end. What is begun and never closed goes to the end: the server refuses it.
        mutating func next() -> (kind: Kind, text: ArraySlice<UInt8>)? {
            guard position < bytes.count else { return nil }
            let start = position
            let kind = scan()
            return (kind, bytes[start..<position])
        }

        private func at(_ index: Int) -> UInt8? { index < bytes.count ? bytes[index] : nil }

        private mutating func scan() -> Kind {
            let byte = bytes[position]
            switch byte {
            case UInt8(ascii: "'"):
                skipQuoted(byte, backslashes: escapeMark == position)
                return .verbatim
            case UInt8(ascii: "\""):
                skipQuoted(byte, backslashes: false)
                return .verbatim
            case UInt8(ascii: "-") where at(position + 1) == UInt8(ascii: "-"):
                position = bytes[position...].firstIndex(of: UInt8(ascii: "\n")) ?? bytes.count
                return .verbatim
            case UInt8(ascii: "/") where at(position + 1) == UInt8(ascii: "*"):
                skipComment()
                return .verbatim
            case UInt8(ascii: "$"):
                return skipDollarQuoted() ? .verbatim : .other
            case UInt8(ascii: "?"):
                position += 1
                return .placeholder
            case _ where Self.isWord(byte):
                let start = position
                while let next = at(position), Self.isWord(next) || next == UInt8(ascii: "$") { position += 1 }
                if position == start + 1, byte | 0x20 == UInt8(ascii: "e") { escapeMark = position }
                return .word
            default:
                position += 1
                return .other
            }
        }

        private mutating func skipQuoted(_ quote: UInt8, backslashes: Bool) {
            position += 1
            while let byte = at(position) {
                position += 1
                if backslashes, byte == UInt8(ascii: "\\") {
                    position = min(position + 1, bytes.count)
                } else if byte == quote {
                    guard at(position) == quote else { return }
                    position += 1
                }
            }
        }

        /// Comments nest.
        private mutating func skipComment() {
            var depth = 0
            while position < bytes.count {
                switch (bytes[position], at(position + 1)) {
                case (UInt8(ascii: "/"), UInt8(ascii: "*")):
                    depth += 1
                    position += 2
                case (UInt8(ascii: "*"), UInt8(ascii: "/")):
                    depth -= 1
                    position += 2
                    if depth == 0 { return }
                default: position += 1
                }
            }
        }

        /// `$$ … $$` and `$tag$ … $tag$`; false, and one byte on, where no such quote begins.
        private mutating func skipDollarQuoted() -> Bool {
            var end = position + 1
            while let byte = at(end), Self.isWord(byte), end > position + 1 || !Self.isDigit(byte) { end += 1 }
            guard at(end) == UInt8(ascii: "$") else {
                position += 1
                return false
            }
            let tag = bytes[position...end]
            var search = end + 1
            while search + tag.count <= bytes.count {
                if bytes[search..<(search + tag.count)].elementsEqual(tag) {
                    position = search + tag.count
                    return true
                }
                search += 1
            }
            position = bytes.count
            return true
        }

        private static func isDigit(_ byte: UInt8) -> Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }

        private static func isWord(_ byte: UInt8) -> Bool {
            let lower = byte | 0x20
            return (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(lower) || isDigit(byte) || byte == UInt8(ascii: "_")
                || byte >= 0x80
        }
    }
#endif
