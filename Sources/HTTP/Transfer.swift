internal import CCurl
internal import Synchronization

/// One request on its way: what the client's thread works on, and where the caller waits.
// Sendable: `wire` belongs to the client's thread from `HTTPClientEngine.add` until the transfer is finished; the rest is
// constant or behind the mutex.
final class Transfer: @unchecked Sendable {
    /// Bytes of a streamed response that wait for the sink before the server is held back.
    private static let capacity = 262_144
    static let headerLimit = 65_536

    enum Event: Sendable {
        /// Of a body that is streamed, with the answer's status.
        case piece([UInt8], status: Int)
        case finished(Result<ClientResponse, HTTPClientError>)
    }

    private struct State {
        var pieces: [UInt8] = []
        var status = 0
        var result: Result<ClientResponse, HTTPClientError>?
        var waiter: CheckedContinuation<Event, Never>?
        var isCancelled = false
    }

    /// What only the client's thread touches.
    struct Wire {
        var easy: UnsafeMutableRawPointer?
        var headerList: UnsafeMutablePointer<curl_slist>?
        var status = 0
        var headers = HTTPFields()
        var headerBytes = 0
        var body: [UInt8] = []
        /// Why our own callback broke the transfer off.
        var error: HTTPClientError?
        var isReceivePaused = false
        var isSendPaused = false
    }

    let request: ClientRequest
    /// Successful bodies go to the caller piece by piece.
    let isStreamed: Bool
    let upload: UploadFeed?
    var wire = Wire()
    private let state = Mutex(State())

    private let engine: HTTPClientEngine

    init(_ request: ClientRequest, _ engine: HTTPClientEngine, isStreamed: Bool) {
        (self.request, self.engine, self.isStreamed) = (request, engine, isStreamed)
        if case .stream(_, let source) = request.body { upload = UploadFeed(source) } else { upload = nil }
    }

    // MARK: The caller's side

    /// The next piece or the end. One caller at a time.
    func next() async -> Event {
        await withCheckedContinuation { continuation in
            let event = state.withLock { state -> Event? in
                if !state.pieces.isEmpty {
                    defer { state.pieces = [] }
                    return .piece(state.pieces, status: state.status)
                }
                if let result = state.result { return .finished(result) }
                state.waiter = continuation
                return nil
            }
            if let event { continuation.resume(returning: event) }
        }
    }

    var isCancelled: Bool { state.withLock { $0.isCancelled } }

    func markCancelled() { state.withLock { $0.isCancelled = true } }

    // MARK: The client thread's side

    func finish(_ result: Result<ClientResponse, HTTPClientError>) {
        upload?.close()
        let waiter = state.withLock { state -> CheckedContinuation<Event, Never>? in
            guard state.result == nil else { return nil }
            state.result = result
            return state.waiter.take()
        }
        waiter?.resume(returning: .finished(result))
    }

    /// Takes what the server sent; `CURL_WRITEFUNC_PAUSE` when the caller is behind, another number than `count` to break
    /// off.
    func receive(_ bytes: UnsafeRawBufferPointer) -> Int {
        guard isStreamed, (200...299).contains(wire.status) else {
            guard wire.body.count + bytes.count <= request.responseLimit else {
                wire.error = .tooLarge(url: request.url, limit: request.responseLimit)
                return -1
            }
            wire.body.append(contentsOf: bytes)
            return bytes.count
        }
        let (waiter, isFull) = state.withLock { state -> (CheckedContinuation<Event, Never>?, Bool) in
            if let waiter = state.waiter.take() { return (waiter, false) }
            state.status = wire.status
            guard state.pieces.count < Self.capacity else { return (nil, true) }
            state.pieces.append(contentsOf: bytes)
            return (nil, false)
        }
        waiter?.resume(returning: .piece(Array(bytes), status: wire.status))
        wire.isReceivePaused = isFull
        return isFull ? Int(CURL_WRITEFUNC_PAUSE) : bytes.count
    }

    func receiveHeader(_ bytes: UnsafeRawBufferPointer) -> Int {
        wire.headerBytes += bytes.count
        guard wire.headerBytes <= Self.headerLimit else {
            wire.error = .tooLarge(url: request.url, limit: Self.headerLimit)
            return -1
        }
        let line = String(decoding: bytes, as: UTF8.self)
        if line.hasPrefix("HTTP/") {
            // Again after an interim answer.
            wire.headers = HTTPFields()
            wire.status = line.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
        } else if let colon = line.utf8.firstIndex(of: UInt8(ascii: ":")) {
            let value = line[line.utf8.index(after: colon)...]
            wire.headers.add(String(line[..<colon]), String(trimmed(value)))
        } else if trimmed(line[...]).isEmpty, wire.status >= 300, let upload {
            // The server has seen enough. libcurl would wait for a paused source all the same.
            upload.close()
            engine.touch(self)
        }
        return bytes.count
    }

    /// Fills libcurl's buffer with what the source gave; pauses when there is nothing.
    func send(into target: UnsafeMutableRawBufferPointer) -> Int {
        guard let upload else { return 0 }
        switch upload.read(into: target) {
        case .bytes(let count):
            return count
        case .nothingYet:
            wire.isSendPaused = true
            return Int(CURL_READFUNC_PAUSE)
        case .failed(let reason):
            wire.error = .aborted(url: request.url, reason: "the request's body failed: \(reason)")
            return Int(CURL_READFUNC_ABORT)
        }
    }
}

private func trimmed(_ text: Substring) -> Substring {
    var text = text
    while let last = text.utf8.last, last == 0x20 || (0x09...0x0D).contains(last) { text = text.dropLast() }
    while let first = text.utf8.first, first == 0x20 || first == 0x09 { text = text.dropFirst() }
    return text
}
