internal import CSystem
internal import Compute
internal import Glibc
internal import Model
internal import Telemetry

/// A file on its way from another host: written beside its place, durable from time to time, so that a fetch that
/// breaks off goes on from there. Once all of it is here it has a third name, under which it is looked at and fitted
/// in, since what has been changed here must not be mixed with what the other host has.
struct IncomingFile: Sendable {
    /// A disk of more bytes than that nobody has.
    static let sizeLimit: Int64 = 16 << 40
    /// What ends the names of files that are not in their places yet.
    static let suffixes = [".incoming", ".arrived"]
    private static let piece: Int64 = 2 << 20
    /// Pieces that are on their way, or here and not written, at once.
    private static let ahead = 3
    /// Bytes after which what is here is made durable.
    private static let stretch: Int64 = 64 << 20
    /// Parts that are told at once.
    private static let extentLimit = 1_000
    /// Bytes of data beyond those that were announced, and that room was made for: file systems round.
    private static let slack: Int64 = 64 << 20

    let file: MovedFile
    /// Where it is to be.
    let path: String
    let files: BlockingExecutor

    var unfinished: String { path + Self.suffixes[0] }
    /// All of it, as it came, or fitted in already.
    var arrived: String { path + Self.suffixes[1] }
    private var mark: String { unfinished + ".at" }

    /// Bytes that it still takes, of `bytes` in all. Blocks.
    func missing(of bytes: Int64) -> Int64 {
        guard !Files.exists(arrived) else { return 0 }
        return max(0, bytes - (Files.allocatedBytes(unfinished) ?? 0))
    }

    /// Fetches what is not here yet. `progress` is told how many bytes of data are here.
    func fetch(from source: any MovedFiles, progress: (Int64) async -> Void) async throws {
        guard try await files.run({ () throws(Failure) in !Files.exists(arrived) }) else { return }
        var (position, fetched) = try await files.run { () throws(Failure) in try begin() }
        var durable = position
        while position < file.sizeBytes {
            let extents = try await source.extents(of: file.name, from: position)
            guard let last = extents.last else { break }
            try check(extents, from: position)
            try await read(extents, after: position, from: source) { piece, bytes in
                fetched += piece.length
                guard fetched <= file.dataBytes + Self.slack else {
                    throw Failure(
                        .storage,
                        "the source announced \(file.dataBytes) bytes of data in \(file.name) and gives more")
                }
                let (here, isStretchOver) = (fetched, piece.end - durable >= Self.stretch)
                try await files.run { () throws(Failure) in
                    let target = try Descriptor(opening: unfinished, O_WRONLY)
                    try target.write(bytes[...], at: piece.offset, unfinished)
                    if isStretchOver { try keep(piece.end, data: here, target) }
                }
                if isStretchOver { durable = piece.end }
                await progress(min(fetched, file.dataBytes))
            }
            position = last.end
        }
        try await arrive()
    }

    /// Gives `body` one piece after the other, while the next ones are on their way. The first extent may have begun
    /// before `position`.
    private func read(
        _ extents: [DataExtent], after position: Int64, from source: any MovedFiles,
        _ body: (DataExtent, [UInt8]) async throws -> Void
    ) async throws {
        // Not all at once: of a large disk they are many.
        var pieces = extents.lazy.flatMap { extent in
            stride(from: max(extent.offset, position), to: extent.end, by: Int64.Stride(Self.piece)).lazy.map {
                DataExtent(offset: $0, length: min(Self.piece, extent.end - $0))
            }
        }.makeIterator()
        try await withThrowingTaskGroup(of: (Int, [UInt8]).self) { group in
            var (asked, written) = (0, 0)
            var underWay: [Int: DataExtent] = [:]
            var here: [Int: [UInt8]] = [:]
            while true {
                guard !Task.isCancelled else {
                    throw Failure(.cancelled, "the fetch of \(file.name) was cancelled", isRetriable: true)
                }
                while underWay.count < Self.ahead, let piece = pieces.next() {
                    let index = asked
                    group.addTask { (index, try await read(piece, from: source)) }
                    underWay[index] = piece
                    asked += 1
                }
                guard let piece = underWay[written] else { return }
                guard let bytes = here.removeValue(forKey: written) else {
                    if let (index, bytes) = try await group.next() { here[index] = bytes }
                    continue
                }
                try await body(piece, bytes)
                underWay[written] = nil
                written += 1
            }
        }
    }

    private func read(_ piece: DataExtent, from source: any MovedFiles) async throws -> [UInt8] {
        let bytes = try await source.read(file.name, at: piece.offset, count: Int(piece.length))
        guard bytes.count == Int(piece.length) else {
            throw Failure(
                .storage, "the source gave \(bytes.count) of \(piece.length) bytes of \(file.name)",
                isRetriable: true)
        }
        return bytes
    }

    /// Copies it on this host.
    func copy(from other: String, mayShare: Bool) async throws {
        let isHere = try await files.run { () throws(Failure) in
            guard !Files.exists(arrived) else { return true }
            try Files.remove(unfinished)
            try Files.write([], to: unfinished, mode: 0o600)
            try Files.resize(unfinished, to: file.sizeBytes)
            return false
        }
        guard !isHere else { return }
        try await SparseCopy.run(other, to: unfinished, mayShare: mayShare, files: files)
        try await arrive()
    }

    /// Gives it its name: complete from here on.
    func finish(mode: mode_t = 0o600) async throws {
        try await files.run { () throws(Failure) in
            try Files.setMode(arrived, mode)
            try Files.synchronise(arrived)
            try Files.rename(arrived, to: path)
            try Files.synchronise(Files.parent(path))
        }
    }

    /// Removes what is here and has not got its name. Blocks.
    func discard() throws(Failure) {
        try Files.remove(arrived)
        try Files.remove(unfinished)
        try Files.remove(mark)
    }

    private func arrive() async throws {
        try await files.run { () throws(Failure) in
            try Files.synchronise(unfinished)
            try Files.rename(unfinished, to: arrived)
            try Files.remove(mark)
            try Files.synchronise(Files.parent(path))
        }
    }

    /// Throws for parts that are none of the file, that are out of order, or that were told before: with each answer
    /// there is less to come.
    private func check(_ extents: [DataExtent], from position: Int64) throws(Failure) {
        var least: Int64 = 0
        for (index, extent) in extents.enumerated() {
            guard index < Self.extentLimit, extent.offset >= least, (1...file.sizeBytes).contains(extent.length),
                extent.offset <= file.sizeBytes - extent.length, extent.end > position
            else { throw Failure(.storage, "the source tells of parts of \(file.name) that cannot be") }
            least = extent.end
        }
    }

    /// Up to where it is here from an earlier call, and how many bytes of data that are. Blocks.
    private func begin() throws(Failure) -> (position: Int64, data: Int64) {
        if let bytes = try Files.read(mark, limit: 64), Files.size(unfinished) == file.sizeBytes {
            let numbers = String(decoding: bytes, as: UTF8.self).split(separator: " ").compactMap { Int64($0) }
            // A mark without the count of what is in front of it is of an earlier release: begun anew.
            if numbers.count == 3, numbers[0] == file.sizeBytes, (0...file.sizeBytes).contains(numbers[1]),
                (0...numbers[1]).contains(numbers[2])
            {
                return (numbers[1], min(numbers[2], file.dataBytes))
            }
        }
        try Files.remove(mark)
        try Files.remove(unfinished)
        try Files.write([], to: unfinished, mode: 0o600)
        try Files.resize(unfinished, to: file.sizeBytes)
        return (0, 0)
    }

    private func keep(_ position: Int64, data: Int64, _ target: borrowing Descriptor) throws(Failure) {
        guard fdatasync(target.number) == 0 else { throw Files.failure("synchronise", unfinished) }
        try Files.replace(mark, with: Array("\(file.sizeBytes) \(position) \(data)".utf8), mode: 0o600)
    }
}
