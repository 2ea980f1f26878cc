internal import CMicroHTTPD
internal import Synchronization

/// One request and its answer: the state between the event thread, which reads and writes the socket, and the Swift task,
/// which runs the handler. The event thread never waits: where the task has the next word the connection is suspended.
// Sendable: `pointer` is used on the connection's event thread, or to resume while `isSuspended`, when it cannot go away.
final class Exchange: @unchecked Sendable {
    enum Phase {
        /// The request line is there.
        case headers
        /// The body is being buffered.
        case collecting
        /// Streamed: the handler runs and has not asked for the body yet; suspended.
        case offered
        /// Streamed: the handler has asked; the library hears it at its next call.
        case accepted
        /// Streamed: the body arrives.
        case streaming
        /// The whole request is there and the handler runs; suspended.
        case handling
        /// The answer is there. What still comes of the body is thrown away first.
        case answered(PreparedResponse)
        case sending(DownloadStream?)
        /// The connection is to be broken off.
        case aborted
        case finished
    }

    struct State {
        var phase = Phase.headers
        var isSuspended = false
        /// The library still asks what to do about the headers: only now an answer can refuse the body.
        var isAtHeaders = true
        /// The body's announced length; `nil` for a chunked one, 0 when there is none.
        var announced: Int? = 0
        var answersEarly = false
        var bodyLimit = 0
        var received = 0
        var discarded = 0
        var body: [UInt8] = []
        var upload: UploadStream?
        var request: HTTPRequest?
        var resolution: Resolution?
        var task: Task<Void, Never>?
        var deadline: ContinuousClock.Instant
    }

    let core: ServerCore
    let connection: ServerConnection
    let target: String
    let startedAt: ContinuousClock.Instant
    private let pointer: OpaquePointer
    private let state: Mutex<State>

    init(_ core: ServerCore, _ connection: ServerConnection, _ pointer: OpaquePointer, target: String) {
        self.core = core
        self.connection = connection
        self.pointer = pointer
        self.target = target
        startedAt = .now
        state = Mutex(State(deadline: startedAt + core.configuration.requestTimeout))
    }

    // MARK: On the event thread

    /// The library's call for a request: once for the headers, then for each piece of the body (of which `untaken` bytes
    /// come again), then once for the end; again after each resume. False breaks the connection off.
    func advance(method: UnsafePointer<CChar>, _ data: UnsafeRawBufferPointer?, _ untaken: inout Int) -> Bool {
        state.withLock { state in
            if let data { return take(data, &untaken, &state) }
            switch state.phase {
            case .headers:
                return begin(&state, method: String(cString: method))
            case .collecting:
                start(&state, body: .bytes(state.body))
                state.body = []
                return proceed(&state)
            case .accepted:
                state.isAtHeaders = false
                state.phase = .streaming
                return true
            case .streaming:
                state.upload?.end()
                state.phase = .handling
                return suspend(&state)
            case .offered, .handling:
                return state.isSuspended || suspend(&state)
            case .answered:
                return proceed(&state)
            case .sending, .finished:
                return true
            case .aborted:
                return false
            }
        }
    }

    private func begin(_ state: inout State, method: String) -> Bool {
        guard let opening = RequestOpening(self, pointer, method: method) else { return false }
        state.announced = opening.bodyLength
        state.answersEarly = opening.expectsContinue
        let resolution = core.router.resolve(opening.request)
        let options = resolution.options
        state.bodyLimit = options.bodyLimit ?? core.configuration.bodyLimit
        state.deadline = startedAt + (options.requestTimeout ?? core.configuration.requestTimeout)
        state.resolution = resolution
        state.request = opening.request
        if let refusal = opening.refusal {
            answer(refusal, &state)
            // Where the next request begins is not certain.
            state.answersEarly = true
        } else if let length = opening.bodyLength, length > state.bodyLimit {
            answer(resolution.tooLarge(opening.request, limit: state.bodyLimit), &state)
        } else if opening.bodyLength == 0 {
            start(&state, body: options.isStreamed ? .stream(BytesSource([])) : .bytes([]))
            // An answer now, before the library has seen the end of the request, would close the connection.
            state.isAtHeaders = false
            return true
        } else if options.isStreamed {
            let upload = UploadStream(self)
            state.upload = upload
            start(&state, body: .stream(upload))
        } else {
            state.body.reserveCapacity(min(opening.bodyLength ?? 0, 65_536))
            state.isAtHeaders = false
            state.phase = .collecting
            return true
        }
        return proceed(&state)
    }

    private func take(_ data: UnsafeRawBufferPointer, _ untaken: inout Int, _ state: inout State) -> Bool {
        switch state.phase {
        case .collecting:
            guard state.body.count + data.count <= state.bodyLimit else {
                refuseLargeBody(&state)
                return take(data, &untaken, &state)
            }
            state.body.append(contentsOf: data)
        case .streaming:
            guard !state.isSuspended else { return true }
            guard state.received + data.count <= state.bodyLimit else {
                // The handler decides about the answer; what comes until then is counted and thrown away.
                state.upload?.fail(.tooLarge(limit: state.bodyLimit))
                return discard(data, &untaken, &state)
            }
            guard state.upload?.push(data) != false else { return suspend(&state) }
            state.received += data.count
        case .answered:
            return discard(data, &untaken, &state)
        case .headers, .offered, .accepted, .handling, .sending, .aborted, .finished:
            return false
        }
        untaken = 0
        return true
    }

    private func discard(_ data: UnsafeRawBufferPointer, _ untaken: inout Int, _ state: inout State) -> Bool {
        state.discarded += data.count
        untaken = 0
        return state.discarded <= ServerConfiguration.discardLimit
    }

    private func refuseLargeBody(_ state: inout State) {
        guard let request = state.request, let resolution = state.resolution else { return }
        state.body = []
        answer(resolution.tooLarge(request, limit: state.bodyLimit), &state)
    }

    /// Suspends while the handler runs, or sends the answer when it is there already.
    private func proceed(_ state: inout State) -> Bool {
        guard case .answered(let prepared) = state.phase else { return suspend(&state) }
        if state.isAtHeaders, !state.answersEarly, state.announced ?? 0 <= ServerConfiguration.discardLimit {
            // The client is sending already, and is sure to read the answer only when its body was read.
            state.isAtHeaders = false
            return true
        }
        guard prepared.queue(on: pointer, closing: core.isStopping || state.isAtHeaders || state.discarded > 0) else {
            return false
        }
        state.phase = .sending(prepared.download)
        core.answered(self, method: state.request?.method, status: prepared.status)
        return true
    }

    private func suspend(_ state: inout State) -> Bool {
        guard !core.isStopped else { return false }
        MHD_suspend_connection(pointer)
        state.isSuspended = true
        return true
    }

    /// For a reader that has nothing to send at present. False when the exchange is over.
    func suspendForDownload() -> Bool {
        state.withLock { state in
            guard case .sending = state.phase else { return false }
            return suspend(&state)
        }
    }

    // MARK: From other threads

    private func resume(_ state: inout State) {
        guard state.isSuspended else { return }
        state.isSuspended = false
        MHD_resume_connection(pointer)
    }

    func resumeForDownload() {
        state.withLock { resume(&$0) }
    }

    /// The handler waits for more of the body, or has just made room for it.
    func uploadIsWanted() {
        state.withLock { state in
            switch state.phase {
            case .offered:
                state.phase = .accepted
                resume(&state)
            case .streaming:
                resume(&state)
            default: break
            }
        }
    }

    private func start(_ state: inout State, body: RequestBody) {
        guard var request = state.request, let resolution = state.resolution else { return }
        guard core.beginHandling() else {
            return answer(Router.plain(503, "too many requests at the same time", ["Retry-After": "1"]), &state)
        }
        request.body = body
        state.phase = state.upload == nil ? .handling : .offered
        let handled = request
        state.task = Task { [self] in
            let response = await resolution.respond(to: handled)
            core.endHandling()
            answer(await PreparedResponse.make(response, self, files: core.files))
        }
    }

    private func answer(_ response: HTTPResponse, _ state: inout State) {
        settle(PreparedResponse.make(response), &state)
    }

    private func settle(_ prepared: PreparedResponse?, _ state: inout State) {
        state.phase = prepared.map { .answered($0) } ?? .aborted
        // What of the body was not read by now is thrown away.
        state.upload?.fail(.disconnected)
        // An answer that came at the last moment still needs the event thread's attention.
        state.deadline = max(state.deadline, .now + ServerConfiguration.answerTime)
    }

    private func answer(_ prepared: PreparedResponse?) {
        state.withLock { state in
            switch state.phase {
            case .offered, .accepted, .streaming, .handling:
                settle(prepared, &state)
                resume(&state)
            case .headers, .collecting, .answered, .sending, .aborted, .finished:
                // Answered for the handler, because it took too long or the client is gone.
                break
            }
        }
    }

    /// Acts on what takes too long. True when the socket is to be shut down.
    func isOverdue(_ now: ContinuousClock.Instant) -> Bool {
        state.withLock { state in
            guard now > state.deadline else { return false }
            switch state.phase {
            case .headers, .collecting, .answered:
                return true
            case .accepted, .streaming:
                state.upload?.fail(.timedOut)
                state.task?.cancel()
                state.phase = .aborted
                resume(&state)
                return true
            case .offered, .handling:
                state.upload?.fail(.timedOut)
                state.task?.cancel()
                answer(Router.plain(503, "the request took too long", ["Retry-After": "5"]), &state)
                resume(&state)
                return false
            case .sending, .aborted, .finished:
                return false
            }
        }
    }

    /// The client closed its side.
    func clientIsGone() {
        let download = state.withLock { state -> DownloadStream? in
            state.upload?.fail(.disconnected)
            state.task?.cancel()
            guard case .sending(let download) = state.phase else { return nil }
            return download
        }
        download?.cancel()
    }

    /// Breaks the connection off as soon as the event thread gets to it.
    func abort() {
        let download = state.withLock { state -> DownloadStream? in
            state.upload?.fail(.disconnected)
            state.task?.cancel()
            var download: DownloadStream?
            if case .sending(let current) = state.phase { download = current }
            if case .finished = state.phase {} else { state.phase = .aborted }
            resume(&state)
            return download
        }
        download?.cancel()
    }

    /// The library is done with the request, well or not.
    func finish() {
        let download = state.withLock { state -> DownloadStream? in
            var download: DownloadStream?
            // Before the cancellation, so that the reader learns why.
            state.upload?.fail(.disconnected)
            switch state.phase {
            case .sending(let current): download = current
            case .answered: break
            default: state.task?.cancel()
            }
            state.phase = .finished
            state.upload = nil
            state.request = nil
            state.task = nil
            return download
        }
        download?.cancel()
    }
}
