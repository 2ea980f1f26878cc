internal import Model

/// What a console's log may take. virtlogd cuts the logs that it writes itself; a QEMU that writes its own, because the host's
/// libvirt is set to let it (`stdio_handler = "file"`), never does, and a guest can write as much as it likes.
struct ConsoleLogLimit: Sendable {
    /// Beyond this only the last half stays.
    let bytes: Int64

    /// A file system's usual block.
    private static let block: Int64 = 4_096

    /// Nothing when the log takes less, or is not there.
    func apply(to path: String) throws(Failure) {
        guard let size = Files.size(path), let taken = Files.allocatedBytes(path), taken > bytes else { return }
        let rest = size - bytes / 2
        guard rest >= Self.block else { return }
        // The writer may stand anywhere: the file must not get shorter under it.
        try Files.hollow(path, first: rest / Self.block * Self.block)
    }
}
