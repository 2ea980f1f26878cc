import Foundation
import Glibc

/// A TCP connection by hand, to send what no client library would. Its blocking calls run on threads of their own.
final class RawConnection: Sendable {
    struct Failure: Error { let what: String }

    private let socket: Int32

    private init(_ socket: Int32) { self.socket = socket }

    deinit { close(socket) }

    static func open(port: UInt16) async throws -> RawConnection {
        try await onThread {
            let socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            let connection = RawConnection(socket)
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = port.bigEndian
            inet_pton(AF_INET, "127.0.0.1", &address.sin_addr)
            var limit = timeval(tv_sec: 20, tv_usec: 0)
            setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
            setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
            let result = withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    connect(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
            guard result == 0 else { throw Failure(what: "connect") }
            return connection
        }
    }

    func send(_ text: String) async throws { try await send(Array(text.utf8)) }

    func send(_ bytes: [UInt8]) async throws {
        try await Self.onThread { [socket] in
            var sent = 0
            while sent < bytes.count {
                let count = bytes[sent...].withUnsafeBytes {
                    Glibc.send(socket, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
                }
                guard count > 0 else { throw Failure(what: "send") }
                sent += count
            }
        }
    }

    /// What arrives until `text` does, or until the server closes.
    func receive(until text: String) async throws -> String {
        let mark = Array(text.utf8)
        let bytes = try await receive(atOnce: 1) {
            $0.count >= mark.count && $0.suffix(mark.count).elementsEqual(mark) ? 0 : 1
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Everything until the server closes.
    func receiveAll() async throws -> String {
        String(decoding: try await receive(atOnce: 65_536) { _ in 65_536 }, as: UTF8.self)
    }

    /// One answer whose length its headers tell.
    func receiveAnswer() async throws -> String {
        let head = try await receive(until: "\r\n\r\n")
        let length = head.lowercased().split(separator: "\r\n").first { $0.hasPrefix("content-length:") }
            .flatMap { Int($0.dropFirst(15).trimmingPrefix { $0 == " " }) }
        guard let length, length > 0 else { return head }
        let body = try await receive(atOnce: 65_536) { length - $0.count }
        return head + String(decoding: body, as: UTF8.self)
    }

    /// Receives as long as `wanted` asks for more bytes, or until the server closes.
    private func receive(atOnce: Int, _ wanted: @escaping @Sendable ([UInt8]) -> Int) async throws -> [UInt8] {
        try await Self.onThread { [socket] in
            var received: [UInt8] = []
            var piece = [UInt8](repeating: 0, count: atOnce)
            while true {
                let want = min(wanted(received), piece.count)
                guard want > 0 else { return received }
                let count = recv(socket, &piece, want, 0)
                if count == 0 { return received }
                guard count > 0 else { throw Failure(what: errno == EAGAIN ? "nothing came" : "recv \(errno)") }
                received += piece[..<count]
            }
        }
    }

    func shutDown() { shutdown(socket, Int32(SHUT_RDWR)) }

    private static func onThread<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
        try await withCheckedThrowingContinuation { continuation in
            Thread.detachNewThread { continuation.resume(with: Result { try body() }) }
        }
    }
}

/// Opens once; whoever waits goes on then.
actor Gate {
    private var isOpen = false
    private var waiting: [CheckedContinuation<Void, Never>] = []

    func open() {
        isOpen = true
        for continuation in waiting { continuation.resume() }
        waiting = []
    }

    func pass() async {
        guard !isOpen else { return }
        await withCheckedContinuation { waiting.append($0) }
    }
}
