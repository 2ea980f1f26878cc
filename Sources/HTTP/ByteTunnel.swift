internal import CSystem
internal import Glibc
internal import Synchronization

/// Why bytes are not carried any more.
public struct TunnelError: Error, Sendable, Hashable, CustomStringConvertible {
    public let description: String

    init(_ description: String) { self.description = description }
}

/// A connection that carries a stream of bytes each way between two sockets, one at each end.
///
/// On the connection the bytes go in pieces, each behind its length; a piece of no length says that this direction has
/// ended, which neither TLS nor a broken wire can say for sure. So either side may end before the other, as with the sockets.
public final class ByteTunnel: Sendable {
    /// Bytes of a piece at most; more is refused.
    static let pieceLimit = 256 << 10
    private static let pollMilliseconds: Int32 = 1_000

    private let wire: any TunnelWire
    private let early: [UInt8]
    private let wake: Int32
    private let isBroken = Atomic<Bool>(false)
    private let sent = Atomic<Int>(0)
    private let received = Atomic<Int>(0)

    /// - Parameter early: what has come already.
    init(_ wire: any TunnelWire, early: [UInt8]) {
        (self.wire, self.early) = (wire, early)
        wake = apus_eventfd()
    }

    deinit {
        wire.close()
        if wake >= 0 { close(wake) }
    }

    /// Bytes that have gone through so far, from and to the local socket.
    public var bytesCarried: (sent: Int, received: Int) {
        (sent.load(ordering: .relaxed), received.load(ordering: .relaxed))
    }

    /// Breaks it off: both sides see the end. From any thread, and more than once.
    public func breakOff() {
        isBroken.store(true, ordering: .sequentiallyConsistent)
        var one: UInt64 = 1
        if wake >= 0 { _ = write(wake, &one, 8) }
    }

    /// Carries bytes until both directions have ended, or one fails; then closes the connection. `local` stays the
    /// caller's, who closes it. Blocks; once.
    public func carry(_ local: Int32) throws(TunnelError) {
        defer { wire.close() }
        guard wake >= 0 else { throw TunnelError("no descriptors are left") }
        guard apus_set_nonblocking(local) == 0, apus_set_nonblocking(wire.descriptor) == 0 else {
            throw TunnelError("a socket cannot be used: \(String(cString: strerror(errno)))")
        }
        var outward = Outward()
        var inward = Inward(early)
        while !(outward.isOver && inward.isOver) {
            guard !isBroken.load(ordering: .sequentiallyConsistent) else { throw TunnelError("it was broken off") }
            var hasMoved = try outward.move(from: local, to: wire, counting: sent)
            if try inward.move(from: wire, to: local, counting: received) { hasMoved = true }
            if !hasMoved { wait(local, outward, inward) }
        }
    }

    private func wait(_ local: Int32, _ outward: Outward, _ inward: Inward) {
        var here: Int32 = 0
        var there: Int32 = 0
        if outward.wantsLocal { here |= POLLIN }
        if inward.wantsLocal { here |= POLLOUT }
        if inward.wantsWire { there |= POLLIN }
        if outward.wantsWire { there |= POLLOUT }
        // A side of which nothing is wanted is left out: its end would be told again and again.
        var sockets = [
            pollfd(fd: wake, events: Int16(POLLIN), revents: 0),
            pollfd(fd: here == 0 ? -1 : local, events: Int16(here), revents: 0),
            pollfd(fd: there == 0 ? -1 : wire.descriptor, events: Int16(there), revents: 0),
        ]
        _ = poll(&sockets, UInt(sockets.count), Self.pollMilliseconds)
    }
}

/// What a call on the connection came to.
enum WireResult {
    case bytes(Int)
    /// Nothing now: to be tried again when the socket is ready.
    case later
    case ended
}

/// The connection under a tunnel. Its calls never block.
protocol TunnelWire: AnyObject, Sendable {
    /// To wait on.
    var descriptor: Int32 { get }
    func receive(into buffer: UnsafeMutableRawBufferPointer) throws(TunnelError) -> WireResult
    func send(_ bytes: UnsafeRawBufferPointer) throws(TunnelError) -> WireResult
    /// Once, or more often.
    func close()
}

/// From the local socket to the connection.
private struct Outward {
    /// What is to be sent: a length and so many bytes.
    private var buffer: [UInt8] = []
    private var position = 0
    private var hasEnded = false

    var isOver: Bool { hasEnded && position == buffer.count }
    var wantsLocal: Bool { !hasEnded && position == buffer.count }
    var wantsWire: Bool { position < buffer.count }

    mutating func move(
        from local: Int32, to wire: any TunnelWire, counting count: borrowing Atomic<Int>
    ) throws(TunnelError) -> Bool {
        var hasMoved = false
        if wantsLocal {
            let room = ByteTunnel.pieceLimit
            var got = 0
            var code: Int32 = 0
            buffer = [UInt8](unsafeUninitializedCapacity: room + 4) { bytes, filled in
                got = recv(local, bytes.baseAddress.map { $0 + 4 }, room, 0)
                code = errno
                let length = UInt32(max(0, got))
                for index in 0..<4 { bytes[index] = UInt8(truncatingIfNeeded: length >> UInt32(24 - index * 8)) }
                filled = got >= 0 ? got + 4 : 0
            }
            position = 0
            if got >= 0 {
                hasEnded = got == 0
                count.add(got, ordering: .relaxed)
                hasMoved = true
            } else if code != EAGAIN, code != EINTR {
                throw TunnelError("the local side has failed: \(String(cString: strerror(code)))")
            }
        }
        guard wantsWire else { return hasMoved }
        let start = position
        let result: Result<WireResult, TunnelError> = buffer.withUnsafeBytes { bytes in
            Result { () throws(TunnelError) in try wire.send(UnsafeRawBufferPointer(rebasing: bytes[start...])) }
        }
        switch try result.get() {
        case .bytes(let sent):
            position += sent
            return true
        case .later: return hasMoved
        case .ended: throw TunnelError("the other side is gone")
        }
    }
}

/// From the connection to the local socket.
private struct Inward {
    private var buffer: [UInt8]
    private var position = 0
    /// Bytes of the piece that are still to come.
    private var left = 0
    private var hasEnded = false

    init(_ early: [UInt8]) { buffer = early }

    var isOver: Bool { hasEnded }
    /// Whether there are bytes for the local socket.
    var wantsLocal: Bool { left > 0 && position < buffer.count }
    var wantsWire: Bool { !hasEnded && !wantsLocal }

    mutating func move(
        from wire: any TunnelWire, to local: Int32, counting count: borrowing Atomic<Int>
    ) throws(TunnelError) -> Bool {
        guard !hasEnded else { return false }
        var hasMoved = false
        if wantsWire, !(left == 0 && buffer.count - position >= 4) {
            if position > 0 {
                buffer.removeFirst(position)
                position = 0
            }
            let kept = buffer
            var outcome: Result<WireResult, TunnelError> = .success(.later)
            buffer = [UInt8](unsafeUninitializedCapacity: kept.count + ByteTunnel.pieceLimit) { bytes, filled in
                for (index, byte) in kept.enumerated() { bytes[index] = byte }
                filled = kept.count
                let room = UnsafeMutableRawBufferPointer(UnsafeMutableBufferPointer(rebasing: bytes[kept.count...]))
                outcome = Result { () throws(TunnelError) in try wire.receive(into: room) }
                if case .success(.bytes(let got)) = outcome { filled += got }
            }
            switch try outcome.get() {
            case .bytes: hasMoved = true
            case .later: break
            case .ended: throw TunnelError("the other side is gone")
            }
        }
        if left == 0, buffer.count - position >= 4 {
            left = buffer[position..<position + 4].reduce(0) { $0 << 8 | Int($1) }
            position += 4
            guard left <= ByteTunnel.pieceLimit else { throw TunnelError("the other side sends what is no tunnel's") }
            if left == 0 {
                hasEnded = true
                // Not an error where the local side is gone already: then nobody reads it.
                _ = apus_shutdown_writing(local)
                return true
            }
            hasMoved = true
        }
        guard wantsLocal else { return hasMoved }
        let (start, length) = (position, min(left, buffer.count - position))
        let written = buffer.withUnsafeBytes { send(local, $0.baseAddress.map { $0 + start }, length, apus_no_signal) }
        guard written >= 0 else {
            guard errno == EAGAIN || errno == EINTR else {
                throw TunnelError("the local side has failed: \(String(cString: strerror(errno)))")
            }
            return hasMoved
        }
        position += written
        left -= written
        count.add(written, ordering: .relaxed)
        return true
    }
}
