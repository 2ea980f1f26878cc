internal import Configuration
internal import Model
internal import Processes

/// The calls of `qemu-img`, each naming every format, so that nothing is ever probed.
struct QemuImg: Sendable {
    /// What a call over an image of a user may take.
    struct Limits: Sendable, Hashable {
        var addressSpaceBytes: UInt64 = 2 << 30
        /// For an image of any size, and on top of it for each GiB of its disk.
        var cpuSeconds: UInt64 = 30
        var cpuSecondsPerGiB: UInt64 = 8

        init() {}

        init(_ configuration: Configuration) {
            addressSpaceBytes = UInt64(configuration[LibvirtDriverOptions.imagesAddressSpaceLimit]) << 20
            cpuSeconds = UInt64(configuration[LibvirtDriverOptions.imagesCPUTimeLimit].components.seconds)
        }

        func command(_ virtualSizeBytes: Int64) -> Command.Limits {
            Command.Limits(
                addressSpaceBytes: addressSpaceBytes,
                cpuSeconds: cpuSeconds + UInt64(max(0, virtualSizeBytes >> 30)) * cpuSecondsPerGiB)
        }
    }

    let program: String
    let limits: Limits

    /// - Returns: `nil` when it is not installed.
    init?(limits: Limits = Limits()) {
        guard let program = find(program: "qemu-img") else { return nil }
        (self.program, self.limits) = (program, limits)
    }

    /// Writes `to` afresh as a raw file, under limits: `from` came from a user.
    func convert(_ from: String, format: DiskFormat, to: String, virtualSizeBytes: Int64) async throws {
        try await runTool(
            Command(
                program, ["convert", "-q", "-f", format.rawValue, "-O", "raw", from, to],
                limits: limits.command(virtualSizeBytes), timeout: .seconds(600 + virtualSizeBytes >> 24)),
            writing: to)
    }

    /// Writes `to` afresh as a file that stands alone, sparse: a disk of our own with what it stands on.
    func copy(_ from: String, format: DiskFormat, to: String, as target: DiskFormat, sizeBytes: Int64) async throws {
        try await runTool(
            Command(
                program, ["convert", "-q", "-f", format.rawValue, "-O", target.rawValue, from, to],
                limits: limits.command(sizeBytes), timeout: .seconds(600 + sizeBytes >> 22)),
            writing: to)
    }

    /// Bytes that `convert` will write: the parts of the image that are not empty.
    func measure(_ path: String, format: DiskFormat, virtualSizeBytes: Int64) async throws -> Int64 {
        let text = try await toolOutput(
            Command(
                program, ["measure", "--output=json", "-f", format.rawValue, "-O", "raw", path],
                limits: limits.command(virtualSizeBytes), timeout: .seconds(60 + virtualSizeBytes >> 28)),
            about: path)
        guard let required = (try? JSON(parsing: text))?["required"]?.int else {
            throw Failure(.storage, "qemu-img did not say how much space \(path) needs", isRetriable: true)
        }
        return Int64(required)
    }

    /// Has a qcow2 disk stand on the raw file `base`, whatever it stood on: that is not opened.
    func rebase(_ path: String, onto base: String) async throws {
        try await runTool(
            Command(
                program, ["rebase", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", base, path],
                limits: limits.command(0), timeout: .seconds(60)),
            writing: path)
    }

    /// Makes a disk larger.
    func grow(_ path: String, format: DiskFormat, to sizeBytes: Int64) async throws {
        try await runTool(
            Command(
                program, ["resize", "-q", "-f", format.rawValue, path, String(sizeBytes)],
                limits: limits.command(sizeBytes), timeout: .seconds(60)),
            writing: path)
    }

    /// An empty qcow2 disk of `sizeBytes` that stands on nothing.
    func create(_ path: String, sizeBytes: Int64) async throws {
        try await runTool(
            Command(
                program, ["create", "-q", "-f", "qcow2", path, String(sizeBytes)], timeout: .seconds(60)),
            writing: path)
    }

    /// A qcow2 disk of `sizeBytes` over the raw file `base`. About 10 ms.
    func createOverlay(_ path: String, base: String, sizeBytes: Int64) async throws {
        try await runTool(
            Command(
                program, ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, path, String(sizeBytes)],
                timeout: .seconds(60)),
            writing: path)
    }
}
