internal import Glibc

/// Options that every daemon has.
public enum CommonOptions {
    public static let host = Option(
        "DEFAULT", "host", default: machineName(),
        help: "The name under which this machine's services are known; never change it while instances are here.",
        check: { isHostName($0) ? nil : "1 to 253 letters, digits, dots, dashes and underscores" })
    public static let statePath = Option(
        "DEFAULT", "state_path", default: "/var/lib/apus", help: "Folder of what the daemons keep.",
        check: { $0.hasPrefix("/") ? nil : "an absolute path" })

    /// Of those programs that tell guests of themselves; not among `all`.
    public static let dhcpDomain = Option(
        "api", "dhcp_domain", default: "novalocal", help: "Domain that guests' hostnames are given in their metadata.",
        check: { domain in
            domain.utf8.allSatisfy { byte in
                (48...57).contains(byte) || (97...122).contains(byte | 32) || byte == 45 || byte == 46
            } ? nil : "a domain, or nothing"
        })

    /// Of those programs that have periodic tasks; not among `all`.
    public static let periodicEnable = Option(
        "DEFAULT", "periodic_enable", default: true,
        help: "Whether periodic tasks run at all: audits, clean-ups, what happens to servers whose time is over.")

    public static let all: [AnyOption] = [host.erased, statePath.erased]
}

/// Whether `text` can name a machine: letters, digits, dots, dashes and underscores, not led by a dash.
public func isHostName(_ text: String) -> Bool {
    (1...253).contains(text.utf8.count) && text.first != "-"
        && text.utf8.allSatisfy { byte in
            switch UnicodeScalar(byte) {
            case "a"..."z", "A"..."Z", "0"..."9", ".", "-", "_": true
            default: false
            }
        }
}

private func machineName() -> String {
    var buffer = [CChar](repeating: 0, count: 256)
    guard gethostname(&buffer, buffer.count - 1) == 0 else { return "localhost" }
    return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}
