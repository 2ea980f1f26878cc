internal import Model

/// One disk file of a guest's own, as QEMU is to open it.
struct GuestDisk: Sendable, Hashable {
    enum Role: Sendable, Hashable {
        case root
        /// Numbered from 0.
        case ephemeral(Int)
        case swap
        /// The disk that the guest boots from when it is being rescued.
        case rescue
    }

    let role: Role
    let path: String
    /// From the folder's `disk.info`, never from the file's bytes.
    let format: DiskFormat
    /// The raw file under a qcow2 overlay; `nil` for a disk that stands alone.
    let backing: String?
    /// Whether its blocks are reserved, so that asynchronous writes never wait for the file system.
    let isPreallocated: Bool
}
