internal import CSystem
internal import Glibc

/// What /proc tells of processes and their sockets. Other users' sockets are only seen by root.
enum ProcessTable {
    /// `Process 4711 (nginx)`
    static func describe(_ pid: Int32) -> String {
        let name = (try? readTextFile("/proc/\(pid)/comm"))??.split(separator: "\n").first
        return "Process \(pid)" + (name.map { " (\($0))" } ?? "")
    }

    /// The program of this process; its link in /proc where the file was replaced meanwhile.
    static var ownProgram: String {
        let path = link("/proc/self/exe")
        return path.flatMap { $0.hasSuffix(" (deleted)") ? nil : $0 } ?? "/proc/self/exe"
    }

    /// The children of a process, with their programs' names.
    static func children(of parent: Int32) -> [(pid: Int32, name: String)] {
        names(in: "/proc").compactMap { Int32($0) }.compactMap { pid in
            guard let fields = stat(of: pid), fields.rest.count > 1, Int32(fields.rest[1]) == parent else { return nil }
            return (pid, fields.name)
        }
    }

    /// The `DEFAULT.host` that a program of ours was started with; `nil` where there is none.
    static func host(of pid: Int32) -> String? {
        let text = ((try? readTextFile("/proc/\(pid)/cmdline")) ?? nil) ?? ""
        let option = "DEFAULT.host="
        let word = text.split(separator: "\0").first { $0.hasPrefix(option) }
        return word.map { String($0.dropFirst(option.count)) }
    }

    /// What a process has used of processors, by user and kernel; 0 for one that is gone.
    static func processorSeconds(of pid: Int32) -> Double {
        guard let fields = stat(of: pid), fields.rest.count > 12, let user = Double(fields.rest[11]),
            let kernel = Double(fields.rest[12])
        else { return 0 }
        return (user + kernel) / Double(sysconf(Int32(_SC_CLK_TCK)))
    }

    /// The most memory that a process has had; 0 for one that is gone.
    static func peakMemoryMiB(of pid: Int32) -> Double {
        let text = ((try? readTextFile("/proc/\(pid)/status")) ?? nil) ?? ""
        let line = text.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
        return (line?.split(separator: " ").dropFirst().first.flatMap { Double($0) } ?? 0) / 1_024
    }

    /// The name in a process's stat, and what stands behind it: state, parent, …
    private static func stat(of pid: Int32) -> (name: String, rest: [Substring])? {
        guard let text = (try? readTextFile("/proc/\(pid)/stat")) ?? nil, let open = text.firstIndex(of: "("),
            let close = text.lastIndex(of: ")")
        else { return nil }
        return (
            String(text[text.index(after: open)..<close]), text[text.index(after: close)...].split(separator: " ")
        )
    }

    /// The process that listens on a TCP port of this network namespace: `nil` when none does, 0 when it cannot be seen.
    static func listener(port: UInt16) -> Int32? {
        var inodes: Set<String> = []
        for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
            guard let text = (try? readTextFile(table)) ?? nil else { continue }
            inodes.formUnion(listeningInodes(table: text, port: port))
        }
        guard !inodes.isEmpty else { return nil }
        for pid in names(in: "/proc").compactMap({ Int32($0) }) {
            for descriptor in names(in: "/proc/\(pid)/fd") {
                guard let target = link("/proc/\(pid)/fd/\(descriptor)"), target.hasPrefix("socket:[") else { continue }
                if inodes.contains(String(target.dropFirst(8).dropLast())) { return pid }
            }
        }
        return 0
    }

    /// The inodes of sockets in state LISTEN (0A) on `port`, from a table of /proc/net.
    static func listeningInodes(table: String, port: UInt16) -> Set<String> {
        var found: Set<String> = []
        for line in table.split(separator: "\n").dropFirst() {
            let fields = line.split(separator: " ")
            guard fields.count > 9, fields[3] == "0A", let colon = fields[1].lastIndex(of: ":") else { continue }
            if UInt16(fields[1][fields[1].index(after: colon)...], radix: 16) == port {
                found.insert(String(fields[9]))
            }
        }
        return found
    }

    private static func names(in folder: String) -> [String] {
        guard let stream = opendir(folder) else { return [] }
        defer { closedir(stream) }
        var found: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != ".", name != ".." { found.append(name) }
        }
        return found
    }

    private static func link(_ path: String) -> String? {
        let buffer = [UInt8](unsafeUninitializedCapacity: 4_096) { bytes, count in
            guard let start = bytes.baseAddress else { return }
            count = start.withMemoryRebound(to: CChar.self, capacity: 4_096) { max(0, readlink(path, $0, 4_096)) }
        }
        return buffer.isEmpty ? nil : String(decoding: buffer, as: UTF8.self)
    }
}
