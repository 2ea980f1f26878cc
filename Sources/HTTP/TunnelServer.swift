internal import CSystem
internal import Crypto
internal import Glibc
internal import Synchronization
internal import Telemetry

/// Lets tunnels come in at a port of its own, from clients that show a certificate of the authority.
///
/// A client's first line says what it wants; the answer is `OK`, and then the tunnel's bytes follow, or `NO` and why.
public final class TunnelServer: Sendable {
    /// Bytes of a line.
    static let lineLimit = 1_024
    private static let handshakeMilliseconds: UInt32 = 10_000
    /// Connections at a time; more wait to be accepted.
    private static let threads = 32

    public let port: UInt16
    private let listener: Int32
    private let wake: Int32
    private let credentials: TLSServerCredentials?
    private let executor = BlockingExecutor(name: "tunnel-in", threads: TunnelServer.threads)
    /// Of their own: who takes long to say who he is must not keep out those who are let in.
    private let greeters = BlockingExecutor(name: "tunnel-greet", threads: 8)
    private let isEnding = Atomic<Bool>(false)
    private let open = Mutex<[ObjectIdentifier: ByteTunnel]>([:])
    private let log = Logger("http.tunnel")

    /// Opens the first of `ports` that is free.
    /// - Parameter tls: `nil` where nothing leaves the machine, or nothing is confidential.
    public init(address: String, ports: ClosedRange<UInt16>, tls: ServerTLS?) throws(HTTPServerError) {
        do throws(CryptoError) {
            credentials = try tls.map { (tls) throws(CryptoError) in
                try TLSServerCredentials(
                    certificatePEM: tls.certificatePEM, privateKeyPEM: tls.privateKeyPEM, trustPEM: tls.trustPEM ?? "")
            }
        } catch {
            throw .refused(address: address, isTLS: true)
        }
        var found: (socket: Int32, port: UInt16)?
        for port in ports where found == nil {
            do throws(HTTPServerError) {
                found = try openListener(address, port)
            } catch {
                guard case .portInUse = error, port < ports.upperBound else { throw error }
            }
        }
        guard let found else { throw .portInUse(address: address, port: ports.upperBound) }
        (listener, port) = found
        wake = apus_eventfd()
    }

    deinit {
        close(listener)
        if wake >= 0 { close(wake) }
        executor.shutdown()
        greeters.shutdown()
    }

    /// Takes connections until `end()`. `decide` gets a client's line and gives the local socket that is to be the other end
    /// of its tunnel, which is closed after it; what it throws the client is told.
    public func run(_ decide: @escaping @Sendable (String) async throws -> Int32) async {
        await withDiscardingTaskGroup { group in
            while let socket = await executor.run({ self.accept() }) {
                group.addTask { await self.serve(socket, decide) }
            }
            breakOff()
        }
    }

    /// Nobody gets in any more, and what is in is broken off.
    public func end() {
        isEnding.store(true, ordering: .sequentiallyConsistent)
        var one: UInt64 = 1
        if wake >= 0 { _ = write(wake, &one, 8) }
        breakOff()
    }

    private func breakOff() {
        for tunnel in open.withLock({ Array($0.values) }) { tunnel.breakOff() }
    }

    /// Blocks; `nil` at the end.
    private func accept() -> Int32? {
        while !isEnding.load(ordering: .sequentiallyConsistent) {
            var sockets = [
                pollfd(fd: listener, events: Int16(POLLIN), revents: 0),
                pollfd(fd: wake, events: Int16(POLLIN), revents: 0),
            ]
            guard poll(&sockets, 2, 1_000) > 0, sockets[0].revents != 0 else { continue }
            let accepted = Glibc.accept(listener, nil, nil)
            guard accepted >= 0 else {
                // Out of descriptors, it may be: the client waits on.
                _ = poll(nil, 0, 100)
                continue
            }
            _ = apus_set_close_on_exec(accepted)
            _ = apus_keep_alive(accepted)
            return accepted
        }
        return nil
    }

    private func serve(_ socket: Int32, _ decide: @Sendable (String) async throws -> Int32) async {
        let greeted = await greeters.run { self.greet(socket) }
        guard let (wire, line) = greeted else { return }
        let local: Int32
        do {
            local = try await decide(line)
        } catch {
            let reason = String("\(error)".filter { !$0.isNewline }.prefix(Self.lineLimit - 8))
            await executor.run {
                _ = wire.write("NO \(reason)\n")
                wire.close()
            }
            return
        }
        await executor.run {
            defer { close(local) }
            guard wire.write("OK\n") else { return wire.close() }
            let tunnel = ByteTunnel(wire, early: [])
            open.withLock { $0[ObjectIdentifier(tunnel)] = tunnel }
            defer { open.withLock { _ = $0.removeValue(forKey: ObjectIdentifier(tunnel)) } }
            if isEnding.load(ordering: .sequentiallyConsistent) { tunnel.breakOff() }
            do throws(TunnelError) {
                try tunnel.carry(local)
            } catch {
                log.notice("a tunnel broke", ["error": error.description])
            }
        }
    }

    /// Who it is, and its line; `nil` for one that is not let in, which is closed. Blocks, for seconds at most.
    private func greet(_ socket: Int32) -> (ServerWire, String)? {
        let session: TLSServerSession?
        do throws(CryptoError) {
            session = try credentials.map { (credentials) throws(CryptoError) in
                try TLSServerSession(credentials, socket: socket)
            }
        } catch {
            log.error("a tunnel's session cannot be made", ["error": error.description])
            close(socket)
            return nil
        }
        // Owns the socket from here on.
        let wire = ServerWire(socket, session)
        do throws(CryptoError) {
            _ = apus_set_blocking(socket)
            _ = apus_receive_timeout(socket, Int32(Self.handshakeMilliseconds / 1_000))
            try session?.shakeHands(within: Self.handshakeMilliseconds)
        } catch {
            log.notice("a client of a tunnel is not let in", ["error": error.description])
            wire.close()
            return nil
        }
        guard let line = wire.readLine(limit: Self.lineLimit) else {
            wire.close()
            return nil
        }
        return (wire, line)
    }
}

/// The server's end of a tunnel's connection.
// Sendable: the session is used under the lock, and not after the socket was closed.
final class ServerWire: TunnelWire, @unchecked Sendable {
    let descriptor: Int32
    private let session: TLSServerSession?
    private let isOpen = Mutex(true)

    /// Owns the socket.
    init(_ socket: Int32, _ session: TLSServerSession?) { (descriptor, self.session) = (socket, session) }

    deinit { close() }

    func receive(into buffer: UnsafeMutableRawBufferPointer) throws(TunnelError) -> WireResult {
        try used { () throws(CryptoError) in
            guard let session else { return Self.plain(recv(descriptor, buffer.baseAddress, buffer.count, 0)) }
            return try session.receive(into: buffer)
        }
    }

    func send(_ bytes: UnsafeRawBufferPointer) throws(TunnelError) -> WireResult {
        try used { () throws(CryptoError) in
            guard let session else {
                return Self.plain(Glibc.send(descriptor, bytes.baseAddress, bytes.count, apus_no_signal))
            }
            return try session.send(bytes)
        }
    }

    func close() {
        isOpen.withLock { isOpen in
            if isOpen { Glibc.close(descriptor) }
            isOpen = false
        }
    }

    /// Blocks.
    func readLine(limit: Int) -> String? {
        var line: [UInt8] = []
        let deadline = ContinuousClock.now + .seconds(10)
        while line.count < limit, .now < deadline {
            var byte: UInt8 = 0
            let result = withUnsafeMutableBytes(of: &byte) { buffer in
                Result { () throws(TunnelError) in try receive(into: buffer) }
            }
            guard case .success(.bytes(1)) = result else { return nil }
            if byte == UInt8(ascii: "\n") { return String(decoding: line, as: UTF8.self) }
            line.append(byte)
        }
        return nil
    }

    /// Blocks.
    func write(_ line: String) -> Bool {
        var rest = Array(line.utf8)[...]
        while !rest.isEmpty {
            let result = rest.withUnsafeBytes { bytes in Result { () throws(TunnelError) in try send(bytes) } }
            guard case .success(.bytes(let count)) = result else { return false }
            rest = rest.dropFirst(count)
        }
        return true
    }

    private func used(_ body: () throws(CryptoError) -> Int?) throws(TunnelError) -> WireResult {
        let result: Result<Int?, CryptoError> = isOpen.withLock { isOpen in
            guard isOpen else { return .success(0) }
            return Result { () throws(CryptoError) in try body() }
        }
        switch result {
        case .success(nil): return .later
        case .success(0): return .ended
        case .success(let count?): return .bytes(count)
        case .failure(let error): throw TunnelError("the connection has failed: \(error)")
        }
    }

    /// As a session's calls; a socket that has failed has ended.
    private static func plain(_ count: Int) -> Int? {
        if count >= 0 { return count }
        return errno == EAGAIN || errno == EINTR ? nil : 0
    }
}
