internal import Glibc
internal import Model

/// The kernel's table of who has which address, from `/proc/net/arp`.
struct Neighbours: Sendable {
    private struct Key: Hashable {
        var address: String
        var device: String
    }

    private var macs: [Key: String] = [:]

    /// - Parameter text: a line of headings, and then for each neighbour its address, kind, flags, MAC, mask and device.
    init(_ text: some StringProtocol) {
        for line in text.split(separator: "\n").dropFirst() {
            let words = line.split(separator: " ", omittingEmptySubsequences: true)
            // Flag 2: the neighbour has answered.
            guard words.count >= 6, words[2].hasPrefix("0x"), let flags = Int(words[2].dropFirst(2), radix: 16),
                flags & 2 != 0
            else { continue }
            macs[Key(address: String(words[0]), device: String(words[5]))] = words[3].lowercased()
        }
    }

    /// The table as it is now.
    static func read() throws(Failure) -> Neighbours {
        guard let file = fopen("/proc/net/arp", "re") else {
            throw Failure(.internalError, "/proc/net/arp cannot be read: \(String(cString: strerror(errno)))")
        }
        defer { fclose(file) }
        var (bytes, part) = ([UInt8](), [UInt8](repeating: 0, count: 65_536))
        // A table of 1,024 entries, the kernel's usual limit, has 80 KiB.
        while bytes.count < 1 << 22 {
            let count = fread(&part, 1, part.count, file)
            guard count > 0 else { break }
            bytes += part.prefix(count)
        }
        return Neighbours(String(decoding: bytes, as: UTF8.self))
    }

    func mac(of address: String, on device: String) -> String? { macs[Key(address: address, device: device)] }
}
