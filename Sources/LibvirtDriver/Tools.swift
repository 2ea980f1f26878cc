internal import Glibc
internal import Model
internal import Processes

/// Runs a program that writes `path`; a failure carries what the program said, at most 500 characters of it.
func runTool(_ command: Command, writing path: String) async throws(Failure) {
    _ = try await toolOutput(command, about: path)
}

/// Runs a program that says something of `path`, and returns what it said.
func toolOutput(_ command: Command, about path: String) async throws(Failure) -> [UInt8] {
    let name = command.path.split(separator: "/").last.map(String.init) ?? command.path
    let result: CommandResult
    do {
        result = try await run(command)
    } catch {
        switch error {
        case .cancelled: throw Failure(.cancelled, "\(name) was cancelled at \(path)", isRetriable: true)
        case .timedOut: throw Failure(.timeout, "\(name) at \(path): \(error)", isRetriable: true)
        case .notFound, .notStarted: throw Failure(.storage, "\(name) at \(path): \(error)", isRetriable: true)
        }
    }
    guard result.status != 0 else { return result.standardOutput }
    let said = result.errorText.split(whereSeparator: \.isNewline).joined(separator: "; ").prefix(500)
    if said.contains("No space left on device") { throw Files.failure("write", path, ENOSPC) }
    throw Failure(.storage, "\(name) failed at \(path) with status \(result.status): \(said)", isRetriable: true)
}
