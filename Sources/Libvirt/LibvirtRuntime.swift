internal import CLibvirt
internal import Glibc
internal import Synchronization
internal import Telemetry

/// What libvirt needs once per process: its error printing silenced, SIGPIPE ignored unless the process handles it, and
/// its event loop registered and running on a thread of its own. Opening a connection starts it; nothing else is
/// needed.
public enum LibvirtRuntime {
    /// Starts the runtime; later calls do nothing. It is never stopped, because libvirt cannot unregister its loop.
    ///
    /// Must come before any use of libvirt in the process, else no events arrive and keepalive ends long calls.
    /// - Throws: what kept it from starting the first time, at each later call too.
    public static func start() throws(LibvirtError) {
        try outcome.get()
    }

    private static let outcome = Result { () throws(LibvirtError) in try startOnce() }

    /// libvirt writes to its daemon's socket with plain `write`: a call under way when the daemon dies would end the
    /// whole process.
    private static func ignoreBrokenPipes() {
        var present = sigaction()
        guard sigaction(SIGPIPE, nil, &present) == 0, present.__sigaction_handler.sa_handler == nil else { return }
        signal(SIGPIPE, SIG_IGN)
    }

    private static func startOnce() throws(LibvirtError) {
        apusSilenceErrors()
        ignoreBrokenPipes()
        guard virInitialize() == 0 else { throw .last("virInitialize") }
        guard virEventRegisterDefaultImpl() == 0 else { throw .last("virEventRegisterDefaultImpl") }
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        defer { pthread_attr_destroy(&attributes) }
        pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
        var thread = pthread_t()
        let status = pthread_create(&thread, &attributes, runEventLoop, nil)
        guard status == 0 else {
            throw LibvirtError(.other(code: status, domain: 0), call: "pthread_create", message: "errno \(status)")
        }
    }
}

// A file-scope function: a closure would be isolated to its surroundings and trap on this thread.
private func runEventLoop(_: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    apusNameThread("libvirt-events")
    var failuresInARow = 0
    while true {
        if virEventRunDefaultImpl() == 0 {
            failuresInARow = 0
            continue
        }
        failuresInARow += 1
        let error = LibvirtError.last("virEventRunDefaultImpl")
        LibvirtMetrics.eventLoopFailures.increment()
        if failuresInARow == 1 { Logger("libvirt").error("event loop failed", ["error": error.description]) }
        // The poll itself failed; without a pause a persistent cause would occupy a core.
        usleep(useconds_t(min(failuresInARow, 100)) * 10_000)
    }
}
