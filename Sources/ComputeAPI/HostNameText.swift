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
