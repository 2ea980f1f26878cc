internal import Glibc

/// A system call on an image's file that failed.
struct FileFault: Error {
    let call: String
    let path: String
    let code: Int32

    /// Reads `errno`, so it is made right after the failed call.
    static func last(_ call: String, _ path: String) -> FileFault { FileFault(call: call, path: path, code: errno) }

    var isStorageFull: Bool { code == ENOSPC || code == EDQUOT }

    var reason: String { String(cString: strerror(code)) }
}

/// The file of an upload under way: `<id>.part`, created, locked against other processes, and removed again unless it is
/// kept. Every call may block.
struct PartFile: ~Copyable {
    let path: String
    private let descriptor: Int32
    private var isKept = false

    private init(path: String, owning descriptor: Int32) { (self.path, self.descriptor) = (path, descriptor) }

    /// Opens and locks `path`; `nil` when another upload holds it, or has just ended.
    static func take(_ path: String) throws(FileFault) -> PartFile? {
        let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw .last("open", path) }
        do {
            guard try isLockedAndNamed(descriptor, path) else {
                close(descriptor)
                return nil
            }
        } catch {
            close(descriptor)
            throw error
        }
        // Whoever left bytes here is gone, or the lock would not have been free.
        let file = PartFile(path: path, owning: descriptor)
        guard ftruncate(descriptor, 0) == 0 else { throw .last("ftruncate", path) }
        return file
    }

    /// Locks the file, and makes sure that `path` still names it: between `open` and the lock the former holder may have
    /// removed the file, or given it its final name, and then its bytes are not ours.
    private static func isLockedAndNamed(_ descriptor: Int32, _ path: String) throws(FileFault) -> Bool {
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            let fault = FileFault.last("flock", path)
            if fault.code == EWOULDBLOCK { return false }
            throw fault
        }
        var opened = stat()
        var named = stat()
        guard fstat(descriptor, &opened) == 0 else { throw .last("fstat", path) }
        guard lstat(path, &named) == 0 else {
            if errno == ENOENT { return false }
            throw .last("lstat", path)
        }
        return opened.st_ino == named.st_ino && opened.st_dev == named.st_dev
    }

    deinit {
        // Removed before the lock goes with the descriptor, so that no other upload's file can be hit.
        if !isKept { unlink(path) }
        close(descriptor)
    }

    borrowing func write(_ bytes: [UInt8]) throws(FileFault) {
        try bytes.withUnsafeBufferPointer { (buffer) throws(FileFault) in
            var offset = 0
            while offset < buffer.count {
                let written = Glibc.write(descriptor, buffer.baseAddress?.advanced(by: offset), buffer.count - offset)
                if written < 0 {
                    if errno == EINTR { continue }
                    throw .last("write", path)
                }
                offset += written
            }
        }
    }

    /// Makes the bytes durable and gives the file its final name.
    mutating func keep(as target: String, in folder: String) throws(FileFault) {
        guard fsync(descriptor) == 0 else { throw .last("fsync", path) }
        guard rename(path, target) == 0 else { throw .last("rename", path) }
        isKept = true
        try synchroniseFolder(folder)
    }
}

/// Makes a rename or removal in `path` durable.
func synchroniseFolder(_ path: String) throws(FileFault) {
    let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw .last("open", path) }
    defer { close(descriptor) }
    guard fsync(descriptor) == 0 else { throw .last("fsync", path) }
}

/// The size of the regular file at `path`; `nil` when there is none.
func fileSize(_ path: String) throws(FileFault) -> Int64? {
    var status = stat()
    guard lstat(path, &status) == 0 else {
        if errno == ENOENT { return nil }
        throw .last("lstat", path)
    }
    guard status.st_mode & S_IFMT == S_IFREG else { throw FileFault(call: "lstat", path: path, code: EINVAL) }
    return Int64(status.st_size)
}

/// Removes the file at `path`; nothing happens when there is none.
func removeFile(_ path: String) throws(FileFault) {
    guard unlink(path) != 0, errno != ENOENT else { return }
    throw .last("unlink", path)
}

/// Creates the folder `path` and those above it; new ones are readable by their owner only.
func makeFolder(_ path: String) throws(FileFault) {
    if mkdir(path, 0o700) == 0 { return }
    switch errno {
    case EEXIST:
        var status = stat()
        guard stat(path, &status) == 0 else { throw .last("stat", path) }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            throw FileFault(call: "mkdir", path: path, code: ENOTDIR)
        }
    case ENOENT:
        guard let slash = path.lastIndex(of: "/"), slash > path.startIndex else { throw .last("mkdir", path) }
        try makeFolder(String(path[..<slash]))
        guard mkdir(path, 0o700) == 0 || errno == EEXIST else { throw .last("mkdir", path) }
    default: throw .last("mkdir", path)
    }
}

/// The names in the folder `path`, without the two dots.
func folderEntries(_ path: String) throws(FileFault) -> [String] {
    guard let folder = opendir(path) else { throw .last("opendir", path) }
    defer { closedir(folder) }
    var names: [String] = []
    while let entry = readdir(folder) {
        let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
            pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        }
        if name != ".", name != ".." { names.append(name) }
    }
    return names
}
