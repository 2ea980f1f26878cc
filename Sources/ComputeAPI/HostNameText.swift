/// The guest's host name for a server's name: lower case letters, digits and dashes, at most 63, neither first nor last
/// a dash. A name of which nothing is left gives `server-<first eight of the id>`.
func hostname(forServer name: String, id: String) -> String {
    var text = ""
    for scalar in name.lowercased().unicodeScalars {
        switch scalar {
        case "a"..."z", "0"..."9", "-": text.unicodeScalars.append(scalar)
        case " ", "_", ".": text.append("-")
        default: continue
        }
    }
    var trimmed = text.drop { $0 == "-" }.prefix(63)
    while trimmed.last == "-" { trimmed.removeLast() }
    return trimmed.isEmpty ? "server-" + id.prefix(8) : String(trimmed)
}

/// Whether a guest can be given the name: labels of letters, digits and dashes, each at most 63 and neither first nor last
/// a dash; one of them, or several with dots between.
func isHostname(_ text: String, mayHaveDomain: Bool) -> Bool {
    let labels = text.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
    guard text.utf8.count <= 255, mayHaveDomain || labels.count == 1 else { return false }
    return labels.allSatisfy { label in
        (1...63).contains(label.count) && label.first != UInt8(ascii: "-") && label.last != UInt8(ascii: "-")
            && label.allSatisfy { byte in
                switch byte {
                case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, UInt8(ascii: "-"): true
                default: false
                }
            }
    }
}
