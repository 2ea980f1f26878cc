internal import CSystem
internal import Glibc
internal import Model

/// The kernel's magic number of the file system that a path is on; 0 with `errno` where it cannot be told.
typealias FileSystemNumber = @Sendable (_ path: String) -> Int64

/// The file system as this target uses it: every failure names the path and what the system said. All calls block.
enum Files {
    /// What the system said, as a failure that another host may not have.
    static func failure(_ what: String, _ path: String, _ code: Int32 = errno) -> Failure {
        if code == ENOSPC || code == EDQUOT, let space = try? space(at: parent(path)) {
            return Failure(
                .storage,
                "cannot \(what) \(path): no space left, \(mebibytes(space.freeBytes)) MiB of \(mebibytes(space.totalBytes)) MiB free",
                isRetriable: true)
        }
        return Failure(.storage, "cannot \(what) \(path): \(systemText(code))", isRetriable: true)
    }

    static func systemText(_ code: Int32) -> String { strerror(code).map { String(cString: $0) } ?? "error \(code)" }

    static func mebibytes(_ bytes: Int64) -> Int64 { bytes >> 20 }

    static func parent(_ path: String) -> String {
        guard let slash = path.lastIndex(of: "/"), slash != path.startIndex else { return "/" }
        return String(path[..<slash])
    }

    /// Makes the folder and those above it that are missing; `mode` is for the last one, 0755 for the others.
    static func makeFolder(_ path: String, mode: mode_t) throws(Failure) {
        if mkdir(path, mode) != 0 {
            let code = errno
            switch code {
            case EEXIST: return
            case ENOENT where path != "/" && !path.isEmpty:
                try makeFolder(parent(path), mode: 0o755)
                guard mkdir(path, mode) == 0 || errno == EEXIST else { throw failure("make", path) }
            default: throw failure("make", path, code)
            }
        }
        // The process's umask must not keep QEMU's user out.
        try setMode(path, mode)
    }

    static func setMode(_ path: String, _ mode: mode_t) throws(Failure) {
        guard chmod(path, mode) == 0 else { throw failure("set the mode of", path) }
    }

    static func setOwner(_ path: String, user: UInt32, group: UInt32) throws(Failure) {
        guard chown(path, user, group) == 0 else { throw failure("give away", path) }
    }

    static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    static func isFolder(_ path: String) -> Bool {
        var status = stat()
        return lstat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    /// Size in bytes; `nil` when there is no such file.
    static func size(_ path: String) -> Int64? {
        var status = stat()
        return stat(path, &status) == 0 ? Int64(status.st_size) : nil
    }

    /// Bytes that the file takes on its file system.
    static func allocatedBytes(_ path: String) -> Int64? {
        var status = stat()
        return stat(path, &status) == 0 ? Int64(status.st_blocks) * 512 : nil
    }

    static func space(at path: String) throws(Failure) -> (freeBytes: Int64, totalBytes: Int64) {
        var status = statvfs()
        guard statvfs(path, &status) == 0 else {
            throw Failure(.storage, "cannot examine \(path): \(systemText(errno))", isRetriable: true)
        }
        let unit = Int64(status.f_frsize)
        return (Int64(clamping: status.f_bavail) * unit, Int64(clamping: status.f_blocks) * unit)
    }

    static let fileSystemNumber: FileSystemNumber = { apus_file_system_kind($0) }

    /// The kind of the file system that `path` is on, when other hosts may use it too: `nfs`, `cephfs` …
    ///
    /// - Parameter number: asks the kernel, or stands for it.
    static func sharedFileSystem(
        at path: String, number: FileSystemNumber = fileSystemNumber
    ) throws(Failure) -> String? {
        let kind = number(path)
        guard kind != 0 else {
            throw Failure(.storage, "cannot examine \(path): \(systemText(errno))", isRetriable: true)
        }
        // The kernel's magic numbers, of linux/magic.h and of the file systems that are not in it.
        return switch UInt32(truncatingIfNeeded: kind) {
        case 0x6969: "nfs"
        case 0xFF53_4D42, 0xFE53_4D42, 0x517B: "smb"
        case 0x00C3_6400: "cephfs"
        case 0x0116_1970: "gfs2"
        case 0x7461_636F: "ocfs2"
        case 0x0BD0_0BD0: "lustre"
        case 0x0102_1997: "9p"
        case 0x6573_5546: "fuse"
        case 0x4750_4653: "gpfs"
        default: nil
        }
    }

    /// Refuses what needs more bytes than are free on the folder's file system, with both figures. `reserved` bytes are
    /// spoken for.
    static func requireSpace(
        _ needed: Int64, for what: String, in folder: String, reserved: Int64 = 0
    ) throws(Failure) {
        guard needed > 0 else { return }
        let free = max(0, try space(at: folder).freeBytes - reserved)
        guard needed > free else { return }
        throw Failure(
            .storage, "\(what) needs \(needed) bytes in \(folder), where \(free) bytes are free", isRetriable: true)
    }

    /// Cuts a file off, or lets it end in a hole.
    static func resize(_ path: String, to bytes: Int64) throws(Failure) {
        guard truncate(path, off_t(bytes)) == 0 else { throw failure("resize", path) }
    }

    /// Reserves the first `bytes` of a file's file system for it: a raw disk's own, or as many as a qcow2 file may come
    /// to take, whose length stays.
    static func reserve(_ path: String, bytes: Int64, keepsSize: Bool) throws(Failure) {
        let file = try Descriptor(opening: path, O_RDWR)
        let result =
            keepsSize ? apus_allocate_keeping_size(file.number, bytes) : apus_allocate(file.number, bytes)
        guard result != 0 else { return }
        if errno == EOPNOTSUPP {
            throw Failure(
                .storage,
                "cannot reserve \(path): its file system cannot, so preallocate_images = space does not work here",
                isRetriable: true)
        }
        throw failure("reserve", path)
    }

    /// Gives back what the first `bytes` of a file take. They read as zeros, and whoever writes at its end goes on there.
    static func hollow(_ path: String, first bytes: Int64) throws(Failure) {
        let file = try Descriptor(opening: path, O_WRONLY | O_NOFOLLOW)
        guard apus_punch_hole(file.number, 0, bytes) == 0 else { throw failure("make room in", path) }
    }

    /// How long ago a file was last changed or touched; `nil` when there is no such file.
    static func age(_ path: String) -> Duration? {
        var status = stat()
        var now = timespec()
        guard stat(path, &status) == 0, clock_gettime(CLOCK_REALTIME, &now) == 0 else { return nil }
        return .seconds(now.tv_sec - status.st_mtim.tv_sec) + .nanoseconds(now.tv_nsec - status.st_mtim.tv_nsec)
    }

    /// Sets the times of a file to now.
    static func touch(_ path: String) throws(Failure) {
        guard utimensat(AT_FDCWD, path, nil, 0) == 0 else { throw failure("set the time of", path) }
    }

    /// Lets every user pass the folders from `top` down to the one above `path`, if `path` is below `top` and they are
    /// this user's.
    static func letPass(from top: String, to path: String) throws(Failure) {
        var folder = parent(path)
        while folder == top || folder.hasPrefix(top + "/") {
            var status = stat()
            if stat(folder, &status) == 0, status.st_mode & S_IXOTH == 0, status.st_uid == geteuid() {
                try setMode(folder, (status.st_mode & 0o7777) | S_IXGRP | S_IXOTH)
            }
            folder = parent(folder)
        }
    }

    /// The first folder above `path` that others than its owner cannot pass.
    static func closedFolder(above path: String) -> String? {
        var folder = path
        repeat {
            folder = parent(folder)
            var status = stat()
            if stat(folder, &status) == 0, status.st_mode & S_IXOTH == 0 { return folder }
        } while folder != "/"
        return nil
    }

    static func rename(_ from: String, to: String) throws(Failure) {
        guard Glibc.rename(from, to) == 0 else { throw failure("rename \(from) to", to) }
    }

    /// Removes a file; nothing when there is none.
    static func remove(_ path: String) throws(Failure) {
        guard unlink(path) == 0 || errno == ENOENT else { throw failure("remove", path) }
    }

    /// Makes what was written to a file, or which names a folder has, survive a loss of power.
    static func synchronise(_ path: String) throws(Failure) {
        let file = try Descriptor(opening: path, O_RDONLY)
        guard fsync(file.number) == 0 else { throw failure("synchronise", path) }
    }

    /// The names in a folder, at most `limit`, without `.` and `..`; none when there is no folder.
    static func names(in path: String, limit: Int = 100_000) throws(Failure) -> [String] {
        guard let folder = opendir(path) else {
            if errno == ENOENT { return [] }
            throw failure("list", path)
        }
        defer { closedir(folder) }
        var names: [String] = []
        while names.count < limit, let entry = readdir(folder) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names
    }

    /// Removes a folder with all that is in it, following no link; nothing when there is none.
    static func removeTree(_ path: String, depth: Int = 8) throws(Failure) {
        var status = stat()
        guard lstat(path, &status) == 0 else {
            if errno == ENOENT { return }
            throw failure("examine", path)
        }
        guard status.st_mode & S_IFMT == S_IFDIR else { return try remove(path) }
        guard depth > 0 else { throw Failure(.storage, "\(path) is nested too deeply to be an instance's folder") }
        for name in try names(in: path) { try removeTree(path + "/" + name, depth: depth - 1) }
        guard rmdir(path) == 0 || errno == ENOENT else { throw failure("remove", path) }
    }

    /// Writes a new file of `mode`; an existing one is replaced.
    static func write(_ bytes: [UInt8], to path: String, mode: mode_t) throws(Failure) {
        let file = try Descriptor(opening: path, O_WRONLY | O_CREAT | O_TRUNC, mode: mode)
        try file.write(bytes, path)
    }

    /// Writes a file of `mode` durably, complete or not at all, by way of `path` with `.new`, of which nothing is left when
    /// that fails.
    static func replace(_ path: String, with bytes: [UInt8], mode: mode_t) throws(Failure) {
        let unfinished = path + ".new"
        do {
            try write(bytes, to: unfinished, mode: mode)
            try synchronise(unfinished)
            try rename(unfinished, to: path)
        } catch {
            try remove(unfinished)
            throw error
        }
    }

    /// Gives a file another name beside the one it has.
    static func link(_ path: String, as other: String) throws(Failure) {
        guard Glibc.link(path, other) == 0 else { throw failure("link", other) }
    }

    /// Up to `limit` bytes from `offset`; `nil` when there is no such file.
    static func read(_ path: String, from offset: Int64 = 0, limit: Int) throws(Failure) -> [UInt8]? {
        let number = open(path, O_RDONLY | O_CLOEXEC)
        guard number >= 0 else {
            if errno == ENOENT { return nil }
            throw failure("open", path)
        }
        let file = Descriptor(owning: number)
        // The limit may be far above what is there, and memory that was touched once stays with the process.
        var bytes = [UInt8](repeating: 0, count: min(limit, 16_384))
        var filled = 0
        while filled < limit {
            if filled == bytes.count {
                bytes.append(contentsOf: repeatElement(0, count: min(limit - filled, filled)))
            }
            let count = bytes[filled...].withUnsafeMutableBytes {
                pread(file.number, $0.baseAddress, $0.count, off_t(offset) + filled)
            }
            if count == 0 { break }
            if count < 0 {
                if errno == EINTR { continue }
                throw failure("read", path)
            }
            filled += count
        }
        bytes.removeSubrange(filled...)
        return bytes
    }

    /// The `count` bytes from `offset`, in one call where the system gives them so; fewer at the end of the file. For
    /// files that are read through in pieces.
    static func readPiece(_ path: String, from offset: Int64, count: Int) throws(Failure) -> [UInt8] {
        try readPiece(try Descriptor(opening: path, O_RDONLY), path, from: offset, count: count)
    }

    /// The same of an open file; `path` is for the failure's text.
    static func readPiece(
        _ file: borrowing Descriptor, _ path: String, from offset: Int64, count: Int
    ) throws(Failure) -> [UInt8] {
        let number = file.number
        var code: Int32 = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: max(0, count)) { buffer, filled in
            while filled < count {
                let read = pread(
                    number, buffer.baseAddress?.advanced(by: filled), count - filled, off_t(offset) + filled)
                if read < 0, errno == EINTR { continue }
                if read < 0 { code = errno }
                guard read > 0 else { break }
                filled += read
            }
        }
        guard code == 0 else { throw failure("read", path, code) }
        return bytes
    }

    /// Whether files in the folder can be opened and written past the page cache, as `cache='none'` needs.
    static func supportsDirectIO(in folder: String) -> Bool {
        // The flag's number is not visible from here, and differs between architectures.
        #if arch(x86_64)
            let direct: Int32 = 0o40000
        #else
            let direct: Int32 = 0o200000
        #endif
        let path = folder + "/.direct-io-probe.\(getpid())"
        let number = open(path, O_CREAT | O_RDWR | O_CLOEXEC | direct, 0o600)
        guard number >= 0 else { return false }
        let file = Descriptor(owning: number)
        defer { unlink(path) }
        var block: UnsafeMutableRawPointer?
        guard posix_memalign(&block, 4_096, 4_096) == 0, let block else { return false }
        defer { free(block) }
        block.initializeMemory(as: UInt8.self, repeating: 0, count: 4_096)
        return pwrite(file.number, block, 4_096, 0) == 4_096
    }
}

/// Owns an open file.
struct Descriptor: ~Copyable, Sendable {
    let number: Int32

    init(owning number: Int32) { self.number = number }

    init(opening path: String, _ flags: Int32, mode: mode_t = 0o600) throws(Failure) {
        let number = open(path, flags | O_CLOEXEC, mode)
        guard number >= 0 else { throw Files.failure("open", path) }
        self.number = number
    }

    deinit { close(number) }

    /// Writes all bytes at the current position. `path` is for the failure's text.
    borrowing func write(_ bytes: [UInt8], _ path: String) throws(Failure) {
        var written = 0
        while written < bytes.count {
            let count = bytes[written...].withUnsafeBytes { Glibc.write(number, $0.baseAddress, $0.count) }
            if count < 0 {
                if errno == EINTR { continue }
                throw Files.failure("write", path)
            }
            written += count
        }
    }
}

extension Descriptor {
    /// Writes all bytes at `offset`. `path` is for the failure's text.
    borrowing func write(_ bytes: ArraySlice<UInt8>, at offset: Int64, _ path: String) throws(Failure) {
        var rest = bytes
        while !rest.isEmpty {
            let place = off_t(offset) + off_t(bytes.count - rest.count)
            let count = rest.withUnsafeBytes { pwrite(number, $0.baseAddress, $0.count, place) }
            if count < 0 {
                if errno == EINTR { continue }
                throw Files.failure("write", path)
            }
            rest = rest.dropFirst(count)
        }
    }
}
