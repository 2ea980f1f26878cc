internal import Model
internal import Processes

/// The calls of `qemu-img`, each naming every format, so that nothing is ever probed.
struct QemuImg: Sendable {
    let program: String

    /// - Returns: `nil` when it is not installed.
    init?() {
        guard let program = find(program: "qemu-img") else { return nil }
        self.program = program
    }

    /// Writes `to` afresh as a raw file, under limits: `from` came from a user.
    func convert(_ from: String, format: DiskFormat, to: String, virtualSizeBytes: Int64) async throws {
        try await runTool(
            Command(
                program, ["convert", "-q", "-f", format.rawValue, "-O", "raw", from, to],
                limits: Self.limits(for: virtualSizeBytes), timeout: .seconds(600 + virtualSizeBytes >> 24)),
            writing: to)
    }

    /// Bytes that `convert` will write: the parts of the image that are not empty.
    func measure(_ path: String, format: DiskFormat, virtualSizeBytes: Int64) async throws -> Int64 {
        let text = try await toolOutput(
            Command(
                program, ["measure", "--output=json", "-f", format.rawValue, "-O", "raw", path],
                limits: Self.limits(for: virtualSizeBytes), timeout: .seconds(60 + virtualSizeBytes >> 28)),
            about: path)
        guard let required = (try? JSON(parsing: text))?["required"]?.int else {
            throw Failure(.storage, "qemu-img did not say how much space \(path) needs", isRetriable: true)
        }
        return Int64(required)
    }

    /// A qcow2 disk of `sizeBytes` over the raw file `base`. About 10 ms.
    func createOverlay(_ path: String, base: String, sizeBytes: Int64) async throws {
        try await runTool(
            Command(
                program, ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, path, String(sizeBytes)],
                timeout: .seconds(60)),
            writing: path)
    }

    /// 2 GiB of address space, as Nova allows; 30 s of CPU time, more for images beyond 4 GiB.
    private static func limits(for virtualSizeBytes: Int64) -> Command.Limits {
        Command.Limits(addressSpaceBytes: 2 << 30, cpuSeconds: 30 + UInt64(max(0, virtualSizeBytes >> 30)) * 8)
    }
}
