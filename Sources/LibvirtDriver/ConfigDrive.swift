internal import Compute
internal import Crypto
internal import Metadata
internal import Model
internal import Processes
internal import Telemetry

/// Makes the ISO 9660 image, labelled `config-2`, from which a guest learns who it is.
struct ConfigDrive: Sendable {
    /// `genisoimage`, or `xorriso` where it is missing, which takes ten times as long.
    let program: String
    private let leading: [String]
    private let files: BlockingExecutor

    /// - Returns: `nil` when neither program is installed.
    init?(files: BlockingExecutor) {
        if let found = find(program: "genisoimage") {
            (program, leading) = (found, [])
        } else if let found = find(program: "xorriso") {
            (program, leading) = (found, ["-as", "mkisofs"])
        } else {
            return nil
        }
        self.files = files
    }

    /// Writes the drive to `path`, complete or not at all. About 35 ms.
    ///
    /// Its content, which may hold a password, is in a folder beside `path` that only root can enter, and only while
    /// the program runs.
    func write(_ content: MetadataContent, to path: String) async throws {
        let folder = path + ".content"
        let unfinished = path + ".new"
        do {
            try await files.run { () throws(Failure) in
                try Files.removeTree(folder)
                try Files.makeFolder(folder, mode: 0o700)
                // Most versions have the same files; as links they take their place on the drive once.
                var written: [[UInt8]: String] = [:]
                for file in content.files {
                    let place = folder + "/" + file.path
                    try Files.makeFolder(Files.parent(place), mode: 0o755)
                    if let first = written[file.bytes] {
                        try Files.link(first, as: place)
                    } else {
                        try Files.write(file.bytes, to: place, mode: 0o644)
                        written[file.bytes] = place
                    }
                }
            }
            try await runTool(
                Command(
                    program, leading + ["-quiet", "-J", "-r", "-V", "config-2", "-o", unfinished, folder],
                    timeout: .seconds(30)),
                writing: unfinished)
        } catch {
            try await files.run { () throws(Failure) in
                try Files.removeTree(folder)
                try Files.remove(unfinished)
            }
            throw error
        }
        try await files.run { () throws(Failure) in
            try Files.removeTree(folder)
            try Files.setMode(unfinished, 0o600)
            try Files.rename(unfinished, to: path)
        }
    }
}
