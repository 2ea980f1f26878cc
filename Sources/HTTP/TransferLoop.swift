internal import CCurl
internal import Model
internal import Synchronization
internal import Telemetry

/// libcurl's multi handle and the one thread that touches it.
final class TransferLoop: Sendable {
    private enum Command: Sendable {
        case begin(Transfer)
        case resume(Transfer)
        case cancel(Transfer)
    }
    private struct State: Sendable {
        var commands: [Command] = []
        var isStarted = false
        var isStopping = false
        var stopWaiters: [CheckedContinuation<Void, Never>] = []
        var isStopped = false
    }
    /// Sendable: the pointer never changes; `curl_multi_wakeup` may be called from any thread, everything else is called
    /// on the loop's own.
    private struct Multi: @unchecked Sendable { let pointer: UnsafeMutableRawPointer }

    private let multi: Multi
    private let trust: TrustFiles
    private let executor = BlockingExecutor(name: "http-client", threads: 1)
    private let state = Mutex(State())

    private static let initialised = apus_curl_global_init()

    init(tls: ClientTLS, maxConnectionsPerHost: Int) {
        precondition(Self.initialised == 0, "libcurl can be initialised")
        guard let pointer = curl_multi_init() else { preconditionFailure("memory for one more handle") }
        _ = apus_curlm_set_long(pointer, CURLMOPT_MAX_HOST_CONNECTIONS, maxConnectionsPerHost)
        multi = Multi(pointer: pointer)
        trust = TrustFiles(tls)
    }

    deinit {
        // The thread holds the loop: when the last reference goes, it has ended or was never started.
        curl_multi_cleanup(multi.pointer)
        trust.close()
        executor.shutdown()
    }

    /// Runs one transfer to its end; cancelling the caller's task ends it early.
    func run(_ transfer: Transfer) async throws -> ClientResponse {
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                transfer.continuation = continuation
                send(.begin(transfer))
            }
        } onCancel: {
            transfer.isCancelled.store(true, ordering: .releasing)
            send(.cancel(transfer))
        }
    }

    /// Lets a paused transfer go on.
    func resume(_ transfer: Transfer) { send(.resume(transfer)) }

    func stop() async {
        await withCheckedContinuation { continuation in
            let isStopped = state.withLock { state in
                state.isStopping = true
                if !state.isStarted { state.isStopped = true }
                if !state.isStopped { state.stopWaiters.append(continuation) }
                return state.isStopped
            }
            if isStopped { continuation.resume() } else { curl_multi_wakeup(multi.pointer) }
        }
    }

    private func send(_ command: Command) {
        let (mustStart, isStopped) = state.withLock { state in
            guard !state.isStopped else { return (false, true) }
            state.commands.append(command)
            let mustStart = !state.isStarted
            state.isStarted = true
            return (mustStart, false)
        }
        if isStopped {
            if case .begin(let transfer) = command { transfer.finish(CURLE_OK, wasStopped: true) }
            return
        }
        if mustStart {
            // Owned by the loop itself: it ends when `stop` is called.
            Task(executorPreference: executor) { self.work() }
        } else {
            curl_multi_wakeup(multi.pointer)
        }
    }

    private func work() {
        var active: [UnsafeMutableRawPointer: Transfer] = [:]
        var isStopping = false
        while !isStopping {
            let commands = state.withLock { state in
                isStopping = state.isStopping
                let commands = state.commands
                state.commands.removeAll(keepingCapacity: true)
                return commands
            }
            for command in commands { apply(command, &active) }
            var running: Int32 = 0
            curl_multi_perform(multi.pointer, &running)
            collect(&active)
            guard !isStopping else { break }
            curl_multi_poll(multi.pointer, nil, 0, 10_000, nil)
        }
        for transfer in active.values { remove(transfer, CURLE_OK, wasStopped: true) }
        let (rest, waiters) = state.withLock { state in
            state.isStopped = true
            defer { state.commands = [] }
            return (state.commands, state.stopWaiters)
        }
        for case .begin(let transfer) in rest { transfer.finish(CURLE_OK, wasStopped: true) }
        for waiter in waiters { waiter.resume() }
    }

    private func apply(_ command: Command, _ active: inout [UnsafeMutableRawPointer: Transfer]) {
        switch command {
        case .begin(let transfer):
            guard !transfer.isCancelled.load(ordering: .acquiring) else {
                transfer.finish(CURLE_OK, wasStopped: true)
                return
            }
            guard let handle = curl_easy_init() else {
                transfer.finish(CURLE_OUT_OF_MEMORY, wasStopped: false)
                return
            }
            transfer.handle = handle
            do {
                try transfer.configure(handle, trust: trust)
            } catch {
                remove(transfer, CURLE_URL_MALFORMAT, wasStopped: false, isAdded: false)
                return
            }
            guard curl_multi_add_handle(multi.pointer, handle) == CURLM_OK else {
                remove(transfer, CURLE_FAILED_INIT, wasStopped: false, isAdded: false)
                return
            }
            active[handle] = transfer
        case .resume(let transfer):
            guard transfer.isPaused, let handle = transfer.handle, active[handle] != nil else { return }
            transfer.isPaused = false
            curl_easy_pause(handle, CURLPAUSE_CONT)
        case .cancel(let transfer):
            guard let handle = transfer.handle, active.removeValue(forKey: handle) != nil else { return }
            remove(transfer, CURLE_OK, wasStopped: true)
        }
    }

    private func collect(_ active: inout [UnsafeMutableRawPointer: Transfer]) {
        var result = CURLE_OK
        while let handle = apus_curlm_finished(multi.pointer, &result) {
            guard let transfer = active.removeValue(forKey: handle) else { continue }
            remove(transfer, result, wasStopped: false)
        }
    }

    private func remove(_ transfer: Transfer, _ result: CURLcode, wasStopped: Bool, isAdded: Bool = true) {
        let handle = transfer.handle
        if isAdded, let handle { curl_multi_remove_handle(multi.pointer, handle) }
        transfer.finish(result, wasStopped: wasStopped)
        transfer.handle = nil
        if let handle { curl_easy_cleanup(handle) }
        curl_slist_free_all(transfer.headerList)
        transfer.headerList = nil
    }
}
