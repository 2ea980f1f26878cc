internal import CSystem
internal import Compute
internal import Glibc
internal import Model

/// A file that is given to another host: a regular one under its own name, never what a link leads to.
struct SetAsideFile: ~Copyable {
    private static let countedParts = 100_000

    let sizeBytes: Int64
    private let path: String
    private let file: Descriptor

    /// - Returns: `nil` for what is not there, or is no regular file. Blocks.
    init?(_ path: String) throws(Failure) {
        // Without waiting: who opens a pipe would wait for a writer.
        let number = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
        guard number >= 0 else {
            if [ENOENT, ELOOP, ENXIO].contains(errno) { return nil }
            throw Files.failure("open", path)
        }
        let opened = Descriptor(owning: number)
        var status = stat()
        guard fstat(number, &status) == 0 else { throw Files.failure("examine", path) }
        guard status.st_mode & S_IFMT == S_IFREG else { return nil }
        sizeBytes = Int64(status.st_size)
        self.path = path
        file = opened
    }

    /// Bytes of all parts that hold data: what a fetch of the file brings. Blocks, for a second at most.
    borrowing func dataBytes() throws(Failure) -> Int64 {
        var (sum, position) = (Int64(0), Int64(0))
        for _ in 0..<Self.countedParts {
            guard let extent = try extent(from: position) else { return sum }
            sum += extent.length
            position = extent.end
        }
        // The rest counts as data: to look for the holes in it would take too long on a network's file system.
        return sum + sizeBytes - min(position, sizeBytes)
    }

    /// The parts with data that end behind `offset`, at most `limit`. Blocks.
    borrowing func extents(from offset: Int64, limit: Int) throws(Failure) -> [DataExtent] {
        var extents: [DataExtent] = []
        var position = offset
        while extents.count < limit, let extent = try extent(from: position) {
            extents.append(extent)
            position = extent.end
        }
        return extents
    }

    /// The bytes from `offset`; fewer at the end of the file. Blocks.
    borrowing func read(at offset: Int64, count: Int) throws(Failure) -> [UInt8] {
        try Files.readPiece(file, path, from: offset, count: count)
    }

    private borrowing func extent(from offset: Int64) throws(Failure) -> DataExtent? {
        guard offset < sizeBytes else { return nil }
        let start = apus_seek_data(file.number, offset)
        guard start >= 0 else {
            if errno == ENXIO { return nil }
            throw Files.failure("read", path)
        }
        let end = apus_seek_hole(file.number, start)
        guard end >= 0 else { throw Files.failure("read", path) }
        // What has grown since the look at its size is not told of.
        guard start < sizeBytes else { return nil }
        return DataExtent(offset: start, length: min(end, sizeBytes) - start)
    }
}
