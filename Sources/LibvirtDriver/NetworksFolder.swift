internal import Crypto
internal import Model

/// Where a host keeps the records of its addresses. Hosts that share the instances' folder each have one: the networks of
/// two hosts are two.
enum NetworksFolder {
    static let name = "_networks"
    /// In the folder: the host whose it is.
    private static let markName = ".host"

    /// The folder of this host: the usual one, unless another host has it. Blocks.
    static func own(in instances: String, host: String) throws(Failure) -> String {
        let usual = instances + "/" + name
        let suffix = "." + Hex.encode(Array(digest(.sha256, of: Array(host.utf8)).prefix(4)))
        let (mark, mine) = (usual + "/" + markName, usual + "/" + markName + suffix)
        if try owner(mark) == nil {
            try Files.makeFolder(usual, mode: 0o700)
            try Files.write(Array(host.utf8), to: mine, mode: 0o600)
            do {
                // Of two that begin at once one gets the name.
                try Files.link(mine, as: mark)
            } catch {
                guard Files.exists(mark) else { throw error }
            }
            try Files.remove(mine)
        }
        return try owner(mark) == host ? usual : usual + suffix
    }

    private static func owner(_ mark: String) throws(Failure) -> String? {
        try Files.read(mark, limit: 512).map { String(decoding: $0, as: UTF8.self) }
    }
}
