internal import CMicroHTTPD
internal import CSystem
internal import Glibc

/// Opens a listening TCP socket and tells the port it got.
func openListener(
    _ address: String, _ port: UInt16, device: String? = nil
) throws(HTTPServerError) -> (socket: Int32, port: UInt16) {
    guard var target = SocketAddress(address, port) else { throw .badAddress(address) }
    let listener = socket(target.family, Int32(SOCK_STREAM.rawValue), 0)
    guard listener >= 0 else { throw failure("socket", address, port) }
    do throws(HTTPServerError) {
        var on: Int32 = 1
        var off: Int32 = 0
        let size = socklen_t(MemoryLayout<Int32>.size)
        guard apus_set_close_on_exec(listener) == 0, apus_set_nonblocking(listener) == 0,
            setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, size) == 0
        else { throw failure("setsockopt", address, port) }
        if let device {
            guard apus_bind_to_device(listener, device) == 0 else { throw failure("SO_BINDTODEVICE", address, port) }
        }
        if target.family == AF_INET6 {
            guard setsockopt(listener, Int32(IPPROTO_IPV6), IPV6_V6ONLY, &off, size) == 0 else {
                throw failure("setsockopt", address, port)
            }
        }
        guard target.withPointer({ bind(listener, $0, $1) }) == 0 else { throw failure("bind", address, port) }
        guard listen(listener, SOMAXCONN) == 0 else { throw failure("listen", address, port) }
        guard let bound = SocketAddress(localOf: listener) else { throw failure("getsockname", address, port) }
        return (listener, bound.port)
    } catch {
        close(listener)
        throw error
    }
}

private func failure(_ call: String, _ address: String, _ port: UInt16) -> HTTPServerError {
    switch errno {
    case EADDRINUSE: .portInUse(address: address, port: port)
    case EACCES: .notPermitted(address: address, port: port)
    default: .listenFailed(address: address, port: port, reason: "\(call): \(String(cString: strerror(errno)))")
    }
}

/// An IPv4 or IPv6 address with its port.
struct SocketAddress {
    private var storage = sockaddr_storage()
    private var length: socklen_t

    var family: Int32 { Int32(storage.ss_family) }

    init?(_ text: String, _ port: UInt16) {
        var v4 = sockaddr_in()
        var v6 = sockaddr_in6()
        if inet_pton(AF_INET, text, &v4.sin_addr) == 1 {
            v4.sin_family = sa_family_t(AF_INET)
            v4.sin_port = port.bigEndian
            length = socklen_t(MemoryLayout<sockaddr_in>.size)
            withUnsafeMutableBytes(of: &storage) { $0.storeBytes(of: v4, as: sockaddr_in.self) }
        } else if inet_pton(AF_INET6, text, &v6.sin6_addr) == 1 {
            v6.sin6_family = sa_family_t(AF_INET6)
            v6.sin6_port = port.bigEndian
            length = socklen_t(MemoryLayout<sockaddr_in6>.size)
            withUnsafeMutableBytes(of: &storage) { $0.storeBytes(of: v6, as: sockaddr_in6.self) }
        } else {
            return nil
        }
    }

    init?(localOf socket: Int32) {
        length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let result = withUnsafeMutablePointer(to: &storage) { storage in
            storage.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(socket, $0, &length) }
        }
        guard result == 0 else { return nil }
    }

    init?(copying address: UnsafePointer<sockaddr>?) {
        guard let address else { return nil }
        switch Int32(address.pointee.sa_family) {
        case AF_INET: length = socklen_t(MemoryLayout<sockaddr_in>.size)
        case AF_INET6: length = socklen_t(MemoryLayout<sockaddr_in6>.size)
        default: return nil
        }
        withUnsafeMutableBytes(of: &storage) {
            $0.copyMemory(from: UnsafeRawBufferPointer(start: address, count: Int(length)))
        }
    }

    var port: UInt16 {
        withUnsafeBytes(of: storage) { bytes in
            family == AF_INET
                ? UInt16(bigEndian: bytes.load(as: sockaddr_in.self).sin_port)
                : UInt16(bigEndian: bytes.load(as: sockaddr_in6.self).sin6_port)
        }
    }

    /// The address alone; an IPv4 address that came over an IPv6 socket is written as IPv4.
    var host: String {
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        withUnsafeBytes(of: storage) { bytes in
            if family == AF_INET {
                var address = bytes.load(as: sockaddr_in.self).sin_addr
                inet_ntop(AF_INET, &address, &text, socklen_t(text.count))
            } else {
                var address = bytes.load(as: sockaddr_in6.self).sin6_addr
                inet_ntop(AF_INET6, &address, &text, socklen_t(text.count))
            }
        }
        let host = String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
        return host.hasPrefix("::ffff:") && host.contains(".") ? String(host.dropFirst(7)) : host
    }

    mutating func withPointer<T>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> T) -> T {
        let length = length
        return withUnsafePointer(to: &storage) { storage in
            storage.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, length) }
        }
    }
}
