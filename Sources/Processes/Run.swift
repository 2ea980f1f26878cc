internal import CSystem
internal import Glibc
internal import Telemetry

/// Every running child occupies one of these threads, which waits in `poll`.
private let executor = BlockingExecutor(name: "processes", threads: 32)

/// Runs a child to its end. At most 32 run at once, further ones wait for their turn.
///
/// An exit code other than 0 is a result, not an error. Timeout and cancellation end the child's whole process group (TERM,
/// after `grace` KILL) before the error is thrown, so nothing of it runs on. Of this process's descriptors the child gets none.
public func run(_ command: Command) async throws(ProcessError) -> CommandResult {
    let stop: Descriptor
    do throws(SystemError) {
        stop = try Descriptor(apus_eventfd(), "eventfd")
    } catch {
        throw .notStarted(program: command.path, reason: error.reason)
    }
    // The descriptor outlives both closures: it is closed when this function's last use of `stop` is over.
    let number = stop.number
    defer { withExtendedLifetime(stop) {} }
    do {
        return try await withTaskCancellationHandler {
            try await executor.run { () throws(ProcessError) in
                var child = try Child(command, stop: number)
                return try child.wait()
            }
        } onCancel: {
            var one: UInt64 = 1
            _ = write(number, &one, 8)
        }
    } catch let error as ProcessError {
        throw error
    } catch {
        throw .notStarted(program: command.path, reason: "\(error)")
    }
}

/// The path of a program, looked for in `PATH` and then in the usual folders, those for administrators included; `nil` when
/// there is none that may be executed. A text with a slash is taken as a path.
public func find(program: String) -> String? {
    if program.contains("/") { return isProgram(program) ? program : nil }
    let path = getenv("PATH").map { String(cString: $0) } ?? ""
    let folders = path.split(separator: ":").map(String.init).filter { $0.hasPrefix("/") }
    let usual = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    return (folders + usual).lazy.map { "\($0)/\(program)" }.first(where: isProgram)
}

private func isProgram(_ path: String) -> Bool {
    var status = stat()
    return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFREG && access(path, X_OK) == 0
}
