internal import CSystem
internal import Glibc

/// One started child and the loop that waits for it.
struct Child {
    private enum Ending { case timeout, cancellation }

    private let command: Command
    private let pid: pid_t
    private let handle: Descriptor
    private let stop: Int32
    private var output: Output
    private var errors: Output

    /// Starts the child. `stop` becomes readable when it shall be ended.
    init(_ command: Command, stop: Int32) throws(ProcessError) {
        if Task.isCancelled { throw .cancelled(program: command.path) }
        let texts = command.arguments + [command.path, command.directory ?? ""]
        guard
            !(texts + (command.environment ?? [:]).flatMap { [$0.key, $0.value] }).contains(where: {
                $0.utf8.contains(0)
            })
        else { throw .notStarted(program: command.path, reason: "an argument contains a NUL") }
        guard let program = find(program: command.path) else { throw .notFound(program: command.path) }
        var arguments = [program] + command.arguments
        if !command.limits.options.isEmpty {
            // Limits set after the start would leave a moment without them; prlimit sets its own and becomes the program.
            guard let prlimit = find(program: "prlimit") else { throw .notFound(program: "prlimit") }
            arguments = [prlimit] + command.limits.options + ["--"] + arguments
        }
        do throws(SystemError) {
            let (output, outputEnd) = try Descriptor.pipe()
            let (errors, errorsEnd) = try Descriptor.pipe()
            let input = try standardInput(command)
            self.output = try Output(output, limit: command.outputLimit)
            self.errors = try Output(errors, limit: command.outputLimit)
            pid = try spawn(arguments, command, [input, outputEnd, errorsEnd])
            self.command = command
            self.stop = stop
            let pidfd = apus_pidfd_open(pid)
            if pidfd < 0 {
                let error = SystemError.last("pidfd_open")
                kill(-pid, SIGKILL)
                var status: Int32 = 0
                while waitpid(pid, &status, 0) < 0, errno == EINTR {}
                throw error
            }
            handle = try Descriptor(pidfd, "pidfd_open")
        } catch {
            throw .notStarted(program: command.path, reason: error.reason)
        }
    }

    /// Waits for the end, collecting both outputs. Blocks the thread.
    mutating func wait() throws(ProcessError) -> CommandResult {
        let clock = ContinuousClock()
        var ending: Ending?
        var next = clock.now + command.timeout
        while true {
            var polled = [
                pollfd(fd: handle.number, events: Int16(POLLIN), revents: 0),
                pollfd(fd: ending == nil ? stop : -1, events: Int16(POLLIN), revents: 0),
                pollfd(fd: output.isOpen ? output.descriptor.number : -1, events: Int16(POLLIN), revents: 0),
                pollfd(fd: errors.isOpen ? errors.descriptor.number : -1, events: Int16(POLLIN), revents: 0),
            ]
            let left = clock.now.duration(to: next)
            _ = poll(&polled, nfds_t(polled.count), left <= .zero ? 0 : milliseconds(left))
            if polled[2].revents != 0 { output.drain() }
            if polled[3].revents != 0 { errors.drain() }
            if polled[0].revents != 0 { break }
            if ending == nil, polled[1].revents != 0 || clock.now >= next {
                ending = polled[1].revents != 0 ? .cancellation : .timeout
                kill(-pid, SIGTERM)
                next = clock.now + command.grace
            } else if ending != nil, clock.now >= next {
                kill(-pid, SIGKILL)
                next = clock.now + command.grace
            }
        }
        // While the dead leader is not reaped its number stays taken, so this cannot reach a stranger's group.
        if ending != nil { kill(-pid, SIGKILL) }
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0, errno == EINTR {}
        // A grandchild may hold the pipes open; what the child itself wrote is there by now.
        output.drain()
        errors.drain()
        switch ending {
        case .timeout:
            let text = String(decoding: errors.bytes.prefix(1_024), as: UTF8.self)
            throw .timedOut(program: command.path, after: command.timeout, errorText: text)
        case .cancellation: throw .cancelled(program: command.path)
        case nil:
            return CommandResult(
                status: apus_signaled(status) != 0 ? 128 + apus_term_signal(status) : apus_exit_code(status),
                standardOutput: output.bytes, standardError: errors.bytes,
                isTruncated: output.isTruncated || errors.isTruncated)
        }
    }

    private func milliseconds(_ duration: Duration) -> Int32 {
        let (seconds, attoseconds) = duration.components
        // Rounded up, so that the loop does not spin through the last millisecond.
        return Int32(clamping: min(seconds, 3_600) * 1_000 + attoseconds / 1_000_000_000_000_000 + 1)
    }
}

private func standardInput(_ command: Command) throws(SystemError) -> Descriptor {
    guard let bytes = command.input else { return try Descriptor(open("/dev/null", O_RDONLY | O_CLOEXEC), "open") }
    return try Descriptor.memory(bytes)
}

/// Starts a program in a process group of its own with only the three given descriptors, no blocked and no ignored signals.
private func spawn(_ arguments: [String], _ command: Command, _ descriptors: [Descriptor]) throws(SystemError) -> pid_t
{
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    for (target, descriptor) in descriptors.enumerated() {
        posix_spawn_file_actions_adddup2(&actions, descriptor.number, Int32(target))
    }
    apus_spawn_close_from(&actions, 3)
    if let directory = command.directory { apus_spawn_chdir(&actions, directory) }
    var signals = sigset_t()
    sigfillset(&signals)
    posix_spawnattr_setsigdefault(&attributes, &signals)
    sigemptyset(&signals)
    posix_spawnattr_setsigmask(&attributes, &signals)
    posix_spawnattr_setpgroup(&attributes, 0)
    let flags = POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK
    posix_spawnattr_setflags(&attributes, Int16(flags))

    var argv: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
    var environment: [UnsafeMutablePointer<CChar>?] =
        command.environment.map { $0.map { strdup("\($0.key)=\($0.value)") } + [nil] } ?? []
    defer { for pointer in argv + environment { free(pointer) } }
    var pid: pid_t = 0
    let code =
        command.environment == nil
        ? posix_spawn(&pid, arguments[0], &actions, &attributes, &argv, apus_environ())
        : posix_spawn(&pid, arguments[0], &actions, &attributes, &argv, &environment)
    // The child has its copies only now; an earlier end of these would close them before the start.
    withExtendedLifetime(descriptors) {}
    guard code == 0 else { throw SystemError(call: "posix_spawn", code: code) }
    return pid
}
