internal import CCurl
internal import CSystem
internal import Glibc
internal import Synchronization

/// The client's thread: one libcurl multi handle, and all transfers on it.
// Sendable: `active` and `spare` belong to the thread; `multi` is otherwise used only for the wake-up, which
// libcurl allows from any thread.
final class HTTPClientEngine: @unchecked Sendable {
    private static let spareLimit = 32

    private enum Command {
        case add(Transfer)
        case touch(Transfer)
    }

    private struct Inbox {
        var commands: [Command] = []
        var isRunning = false
        var isEnding = false
        var onEnd: [CheckedContinuation<Void, Never>] = []
    }

    private let multi: UnsafeMutableRawPointer?
    private let inbox = Mutex(Inbox())
    private var active: [ObjectIdentifier: Transfer] = [:]
    private var spare: [UnsafeMutableRawPointer] = []
    let tls: ClientTLS
    /// `nil` when they could not be kept: then nothing is sent, rather than believing everybody.
    let files: TLSFiles?

    init(tls: ClientTLS, maxConnectionsPerHost: Int) {
        _ = globalInitialisation
        (self.tls, files) = (tls, TLSFiles(tls))
        multi = curl_multi_init()
        apus_curl_multi_set_long(multi, CURLMOPT_MAX_HOST_CONNECTIONS, max(1, maxConnectionsPerHost))
        apus_curl_multi_set_long(multi, CURLMOPT_MAXCONNECTS, max(8, maxConnectionsPerHost * 8))
    }

    deinit {
        for easy in spare { curl_easy_cleanup(easy) }
        curl_multi_cleanup(multi)
    }

    // MARK: From any thread

    /// Hands a transfer over; it ends by `Transfer.finish`, whatever happens.
    func add(_ transfer: Transfer) {
        let isAccepted = inbox.withLock { inbox -> Bool in
            guard !inbox.isEnding, multi != nil else { return false }
            if !inbox.isRunning {
                guard startThread() else { return false }
                inbox.isRunning = true
            }
            inbox.commands.append(.add(transfer))
            return true
        }
        guard isAccepted else {
            return transfer.finish(.failure(.cancelled(url: transfer.request.url)))
        }
        curl_multi_wakeup(multi)
    }

    /// The transfer was cancelled, or one of its sides has moved on.
    func touch(_ transfer: Transfer) {
        let isRunning = inbox.withLock { inbox -> Bool in
            guard inbox.isRunning else { return false }
            inbox.commands.append(.touch(transfer))
            return true
        }
        if isRunning { curl_multi_wakeup(multi) }
    }

    /// Cancels every transfer and ends the thread.
    func end() {
        let isRunning = inbox.withLock { inbox in
            inbox.isEnding = true
            return inbox.isRunning
        }
        if isRunning { curl_multi_wakeup(multi) }
    }

    /// Returns when the thread is gone.
    func waitForEnd() async {
        await withCheckedContinuation { continuation in
            let isRunning = inbox.withLock { inbox in
                if inbox.isRunning { inbox.onEnd.append(continuation) }
                return inbox.isRunning
            }
            if !isRunning { continuation.resume() }
        }
    }

    private func startThread() -> Bool {
        var thread = pthread_t()
        let retained = Unmanaged.passRetained(self)
        guard pthread_create(&thread, nil, clientThread, retained.toOpaque()) == 0 else {
            retained.release()
            return false
        }
        pthread_detach(thread)
        return true
    }

    // MARK: On the thread

    fileprivate func run() {
        apus_set_thread_name("http-client")
        blockBrokenPipeSignal()
        while true {
            let (commands, isEnding) = inbox.withLock { inbox in
                defer { inbox.commands = [] }
                return (inbox.commands, inbox.isEnding)
            }
            for command in commands {
                switch command {
                case .add(let transfer): begin(transfer)
                case .touch(let transfer): look(at: transfer)
                }
            }
            if isEnding { break }
            var running: Int32 = 0
            curl_multi_perform(multi, &running)
            collectFinished()
            // Bounded, so that a wake-up lost to an error costs time and not the program.
            curl_multi_poll(multi, nil, 0, active.isEmpty ? 60_000 : 1_000, nil)
        }
        for transfer in active.values {
            conclude(transfer, .failure(.cancelled(url: transfer.request.url)))
        }
        let (late, waiting) = inbox.withLock { inbox in
            defer {
                inbox.isRunning = false
                inbox.commands = []
                inbox.onEnd = []
            }
            return (inbox.commands, inbox.onEnd)
        }
        for case .add(let transfer) in late { transfer.finish(.failure(.cancelled(url: transfer.request.url))) }
        for continuation in waiting { continuation.resume() }
    }

    private func begin(_ transfer: Transfer) {
        guard !transfer.isCancelled else {
            return transfer.finish(.failure(.cancelled(url: transfer.request.url)))
        }
        guard let files, let easy = spare.popLast() ?? curl_easy_init() else {
            return transfer.finish(
                .failure(.aborted(url: transfer.request.url, reason: "out of memory or descriptors")))
        }
        transfer.wire.easy = easy
        if let error = configure(easy, transfer, tls, files) {
            return conclude(transfer, .failure(error))
        }
        active[ObjectIdentifier(transfer)] = transfer
        let code = curl_multi_add_handle(multi, easy)
        if code != CURLM_OK {
            conclude(transfer, .failure(.aborted(url: transfer.request.url, reason: "libcurl: \(code.rawValue)")))
        }
    }

    private func look(at transfer: Transfer) {
        guard active[ObjectIdentifier(transfer)] != nil, let easy = transfer.wire.easy else { return }
        if transfer.isCancelled {
            return conclude(transfer, .failure(.cancelled(url: transfer.request.url)))
        }
        guard transfer.wire.isReceivePaused || transfer.wire.isSendPaused else { return }
        transfer.wire.isReceivePaused = false
        transfer.wire.isSendPaused = false
        // May call back at once, and pause again.
        curl_easy_pause(easy, CURLPAUSE_CONT)
    }

    private func collectFinished() {
        var left: Int32 = 0
        while let message = curl_multi_info_read(multi, &left) {
            guard message.pointee.msg == CURLMSG_DONE, let easy = message.pointee.easy_handle,
                let context = apus_curl_private(easy)
            else { continue }
            let code = message.pointee.data.result
            let transfer = Unmanaged<Transfer>.fromOpaque(context).takeUnretainedValue()
            conclude(transfer, outcome(of: transfer, code, easy))
        }
    }

    /// Takes the transfer off the multi handle, keeps its easy handle for the next one, and tells the caller.
    private func conclude(_ transfer: Transfer, _ result: Result<ClientResponse, HTTPClientError>) {
        if let easy = transfer.wire.easy {
            if active.removeValue(forKey: ObjectIdentifier(transfer)) != nil { curl_multi_remove_handle(multi, easy) }
            transfer.wire.easy = nil
            if spare.count < Self.spareLimit {
                curl_easy_reset(easy)
                spare.append(easy)
            } else {
                curl_easy_cleanup(easy)
            }
        }
        curl_slist_free_all(transfer.wire.headerList)
        transfer.wire.headerList = nil
        transfer.finish(result)
    }
}

/// Once per process, before the first handle.
private let globalInitialisation: Void = { _ = curl_global_init(Int(CURL_GLOBAL_DEFAULT)) }()

private func clientThread(_ context: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    if let context { Unmanaged<HTTPClientEngine>.fromOpaque(context).takeRetainedValue().run() }
    return nil
}

/// A peer that closes while we write is an error code, not the end of the program.
private func blockBrokenPipeSignal() {
    var signals = sigset_t()
    sigemptyset(&signals)
    sigaddset(&signals, SIGPIPE)
    pthread_sigmask(SIG_BLOCK, &signals, nil)
}
