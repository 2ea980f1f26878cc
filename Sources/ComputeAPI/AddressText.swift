internal import Glibc

/// Whether `text` is an IPv4 address in dotted form.
func isIPv4(_ text: String) -> Bool {
    var address = in_addr()
    return text.utf8.count <= 15 && inet_pton(AF_INET, text, &address) == 1
}

/// Whether `text` is an IPv6 address.
func isIPv6(_ text: String) -> Bool {
    var address = in6_addr()
    return text.utf8.count <= 45 && inet_pton(AF_INET6, text, &address) == 1
}
