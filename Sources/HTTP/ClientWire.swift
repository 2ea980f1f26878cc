internal import CCurl
internal import CSystem
internal import Glibc
internal import Synchronization
internal import Telemetry

/// What a `TunnelServer` says to a request.
public enum TunnelAnswer: Sendable {
    case open(ByteTunnel)
    /// With its reason.
    case refused(String)
}

extension HTTPClient {
    /// Asks the `TunnelServer` at `server` (`https://ADDRESS:PORT`) for a tunnel, with the certificate that the client's
    /// requests show. A few seconds at most.
    /// - Parameter line: what is wanted.
    public func tunnel(to server: String, _ line: String) async throws(HTTPClientError) -> TunnelAnswer {
        guard let files = engine.files else { throw .aborted(url: server, reason: "out of memory or descriptors") }
        let tls = engine.tls
        return try await dials.run { () throws(HTTPClientError) in try TunnelDial(server).ask(line, tls, files) }
    }
}

/// The client's end of an upgraded connection.
// Sendable: the handle is used under the lock, and not after it was closed.
final class ClientWire: TunnelWire, @unchecked Sendable {
    let descriptor: Int32
    private let easy: UnsafeMutableRawPointer
    private let isOpen = Mutex(true)

    init(owning easy: UnsafeMutableRawPointer, _ descriptor: Int32) {
        (self.easy, self.descriptor) = (easy, descriptor)
    }

    deinit { close() }

    func receive(into buffer: UnsafeMutableRawBufferPointer) throws(TunnelError) -> WireResult {
        var count = 0
        let code = isOpen.withLock { $0 ? curl_easy_recv(easy, buffer.baseAddress, buffer.count, &count) : nil }
        return try result(code, count)
    }

    func send(_ bytes: UnsafeRawBufferPointer) throws(TunnelError) -> WireResult {
        var count = 0
        let code = isOpen.withLock { $0 ? curl_easy_send(easy, bytes.baseAddress, bytes.count, &count) : nil }
        return try result(code, count)
    }

    func close() {
        isOpen.withLock { isOpen in
            if isOpen { curl_easy_cleanup(easy) }
            isOpen = false
        }
    }

    private func result(_ code: CURLcode?, _ count: Int) throws(TunnelError) -> WireResult {
        switch code {
        case nil: return .ended
        case CURLE_AGAIN: return .later
        case CURLE_OK: return count > 0 ? .bytes(count) : .ended
        case .some(let code):
            throw TunnelError("the connection has failed: \(String(cString: curl_easy_strerror(code)))")
        }
    }
}

/// A tunnel on its way: libcurl connects and proves who is who, the lines are sent by hand.
private struct TunnelDial {
    let server: String
    private let deadline = ContinuousClock.now + .seconds(20)

    init(_ server: String) { self.server = server }

    /// Blocks.
    func ask(_ line: String, _ tls: ClientTLS, _ files: TLSFiles) throws(HTTPClientError) -> TunnelAnswer {
        guard let easy = curl_easy_init() else { throw .aborted(url: server, reason: "out of memory") }
        var isKept = false
        defer { if !isKept { curl_easy_cleanup(easy) } }
        if let error = configureTunnel(easy, server, tls, files) { throw error }
        let code = curl_easy_perform(easy)
        guard code == CURLE_OK else { throw verdict(code, of: easy, url: server) }
        let descriptor = apus_curl_socket(easy)
        guard descriptor >= 0 else { throw .aborted(url: server, reason: "libcurl has no socket") }
        _ = apus_keep_alive(descriptor)
        try write(Array((line + "\n").utf8), easy, descriptor)
        let (answer, rest) = try readLine(easy, descriptor)
        guard answer == "OK" else {
            guard answer.hasPrefix("NO ") else { throw .aborted(url: server, reason: "the answer is no tunnel's") }
            return .refused(String(answer.dropFirst(3)))
        }
        isKept = true
        return .open(ByteTunnel(ClientWire(owning: easy, descriptor), early: rest))
    }

    private func write(_ bytes: [UInt8], _ easy: UnsafeMutableRawPointer, _ descriptor: Int32) throws(HTTPClientError) {
        var position = 0
        while position < bytes.count {
            var count = 0
            let code = bytes.withUnsafeBytes {
                curl_easy_send(easy, $0.baseAddress.map { $0 + position }, bytes.count - position, &count)
            }
            switch code {
            case CURLE_OK: position += count
            case CURLE_AGAIN: try wait(descriptor, POLLOUT)
            default: throw verdict(code, of: easy, url: server)
            }
        }
    }

    /// The line, and what came after it already.
    private func readLine(
        _ easy: UnsafeMutableRawPointer, _ descriptor: Int32
    ) throws(HTTPClientError) -> (String, rest: [UInt8]) {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 16_384)
        while true {
            if let end = bytes.firstIndex(of: UInt8(ascii: "\n")) {
                return (String(decoding: bytes[..<end], as: UTF8.self), Array(bytes[(end + 1)...]))
            }
            guard bytes.count < TunnelServer.lineLimit else {
                throw .tooLarge(url: server, limit: TunnelServer.lineLimit)
            }
            var count = 0
            switch curl_easy_recv(easy, &buffer, buffer.count, &count) {
            case CURLE_OK where count > 0: bytes += buffer.prefix(count)
            case CURLE_OK: throw .aborted(url: server, reason: "the server closed the connection")
            case CURLE_AGAIN: try wait(descriptor, POLLIN)
            case let code: throw verdict(code, of: easy, url: server)
            }
        }
    }

    private func wait(_ descriptor: Int32, _ event: Int32) throws(HTTPClientError) {
        guard .now < deadline else { throw .timedOut(url: server) }
        var sockets = [pollfd(fd: descriptor, events: Int16(event), revents: 0)]
        _ = poll(&sockets, 1, 500)
    }
}
