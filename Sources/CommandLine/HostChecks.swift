internal import CSystem
internal import Glibc
internal import Model
internal import Processes

/// The checks of `apus doctor` that need only the machine itself.
enum HostChecks {
    static func privileges(userID: UInt32) -> Finding {
        userID == 0
            ? .ok("privileges", "root")
            : .problem(
                "privileges", "not root", "the agent drives QEMU's disks and libvirt's system daemon; run it as root")
    }

    static func program(_ name: String, package: String, alternative: String? = nil) -> Finding {
        if let path = find(program: name) { return .ok(name, path) }
        if let alternative, let path = find(program: alternative) {
            return .warning(name, "not found, but \(path)", "it takes ten times as long; apt-get install \(package)")
        }
        return .problem(name, "not found", "apt-get install \(package)")
    }

    /// Free space for what grows there. Below `least` nothing can be built; below ten times that it soon cannot.
    static func space(_ check: String, path: String, freeBytes: Int64, least: Int64) -> Finding {
        let text = "\(readable(bytes: freeBytes)) free in \(path)"
        if freeBytes < least { return .problem(check, text, "make room: at least \(readable(bytes: least))") }
        if freeBytes < least * 10 { return .warning(check, text, "that is little for disks of guests") }
        return .ok(check, text)
    }

    static func space(_ check: String, path: String, least: Int64) -> Finding {
        var status = statvfs()
        let folder = existing(path)
        guard statvfs(folder, &status) == 0 else {
            return .problem(
                check, "\(folder) cannot be looked at: \(String(cString: strerror(errno)))", "see to its file system")
        }
        if UInt(status.f_flag) & UInt(ST_RDONLY) != 0 {
            return .problem(check, "\(folder) is read-only", "mount it writable")
        }
        return space(check, path: path, freeBytes: Int64(status.f_bavail) * Int64(status.f_frsize), least: least)
    }

    /// The nearest folder above `path` that exists.
    private static func existing(_ path: String) -> String {
        var folder = path
        while access(folder, F_OK) != 0, let slash = folder.lastIndex(of: "/"), slash > folder.startIndex {
            folder = String(folder[..<slash])
        }
        return access(folder, F_OK) == 0 ? folder : "/"
    }

    /// A clock that is years off makes every certificate, token and lease wrong.
    static func date(_ now: Timestamp) -> Finding {
        let earliest = Timestamp(iso8601: "2025-01-01") ?? now
        let latest = Timestamp(iso8601: "2060-01-01") ?? now
        guard now >= earliest, now < latest else {
            return .problem("clock", "it says \(now.iso8601)", "set the date; tokens and certificates depend on it")
        }
        return .ok("clock", now.iso8601)
    }

    /// How far this machine's clock is from the control plane's.
    static func clock(_ now: Timestamp, control: Timestamp) -> Finding {
        let apart = now.since(control)
        let seconds = Int(abs(apart.inSeconds).rounded())
        let text = "\(seconds) s \(apart < .zero ? "behind" : "ahead of") the control plane"
        if seconds > 30 {
            return .problem("clock", text, "tokens and leases fail; set the clock, for instance with chrony")
        }
        if seconds > 3 { return .warning("clock", text, "set the clock, for instance with chrony") }
        return .ok("clock", "\(now.iso8601), the same as the control plane's")
    }

    /// A port that a role wants: free, ours, or somebody else's.
    static func port(_ role: String, port: UInt16, listener: Int32?, own: Int32?) -> Finding {
        let check = "port \(port)"
        guard port != 0 else { return .ok("port", "\(role) takes any free port") }
        switch listener {
        case nil: return .ok(check, "free for \(role)")
        case let pid? where pid == own && pid != 0: return .ok(check, "\(role) of the running process \(pid)")
        case let pid?:
            let holder = pid == 0 ? "a process that cannot be seen from here" : ProcessTable.describe(pid)
            return .problem(
                check, "\(role) needs it, and \(holder) has it", "stop that one, or give \(role) another port")
        }
    }

    /// A folder whose secrets others must not read, and a file of secrets likewise.
    static func mode(_ check: String, path: String, forbidden: UInt32, advice: String) -> Finding? {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        let mode = status.st_mode & 0o777
        let shown = String(mode, radix: 8)
        guard mode & forbidden == 0 else {
            return .problem(check, "\(path) has mode \(shown)", "\(advice) \(path)")
        }
        return .ok(check, "\(path) has mode \(shown)")
    }

    /// Whether QEMU, which is another user, can reach a folder: every folder above must be passable.
    static func passable(_ check: String, path: String) -> Finding {
        var folder = ""
        for part in path.split(separator: "/") {
            folder += "/\(part)"
            var status = stat()
            guard stat(folder, &status) == 0 else { break }
            if status.st_mode & 0o001 == 0 {
                return .problem(check, "QEMU's user cannot pass through \(folder)", "chmod o+x \(folder)")
            }
        }
        return .ok(check, "QEMU's user can reach \(path)")
    }

    /// virtlogd keeps the guests' console logs; libvirt starts no guest with a logged console without it.
    static func virtlogd(socket path: String) -> Finding {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        guard descriptor >= 0 else {
            return .problem("virtlogd", "no socket can be made", "raise the limit of open files")
        }
        defer { close(descriptor) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else {
            return .problem("virtlogd", "the path \(path) is too long for a socket", "use a shorter one")
        }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        let size = socklen_t(MemoryLayout<sockaddr_un>.size)
        let connected = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, size) }
        }
        return connected == 0
            ? .ok("virtlogd", "answers on \(path)")
            : .problem(
                "virtlogd", "does not answer on \(path) (\(String(cString: strerror(errno))))",
                "start it: systemctl start virtlogd, or deploy/lab daemon start where there is no systemd")
    }

    /// The address at which guests ask for what they are told of themselves.
    /// - Parameter label: of the network device that has it on this machine; `nil` for none.
    static func metadata(isOn: Bool, label: String?) -> Finding {
        guard isOn else { return .ok("metadata", "[compute] metadata_service is off; guests have config drives") }
        guard let label, !label.hasSuffix(":apus") else {
            return .ok(
                "metadata", label.map { "169.254.169.254 is on \($0)" } ?? "169.254.169.254 is free for the agent")
        }
        return .warning(
            "metadata", "169.254.169.254 is on \(label), by another's hand",
            "guests are told nothing there; take it away, or set [compute] metadata_service = no")
    }

    static func metadata(isOn: Bool) -> Finding {
        var text = [CChar](repeating: 0, count: 64)
        let found = apus_find_address("169.254.169.254", &text, text.count)
        guard found >= 0 else {
            return .problem(
                "metadata", "this machine's addresses are not known: \(String(cString: strerror(errno)))",
                "run it as root")
        }
        let label = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return metadata(isOn: isOn, label: found == 1 ? label : nil)
    }

    /// A service that listens beyond loopback without TLS.
    static func plaintext(isAllowed: Bool, listens: [(role: String, address: String, isLoopback: Bool)]) -> Finding {
        let beyond = listens.filter { !$0.isLoopback }
        if isAllowed {
            return .warning(
                "plaintext", "[apus] allow_plaintext is true: credentials may cross the network unencrypted",
                "set it to false; services beyond loopback then use TLS")
        }
        if beyond.isEmpty { return .ok("plaintext", "services listen on loopback only") }
        return .ok(
            "plaintext",
            "beyond loopback with TLS only: \(beyond.map { "\($0.role) \($0.address)" }.joined(separator: ", "))")
    }
}
