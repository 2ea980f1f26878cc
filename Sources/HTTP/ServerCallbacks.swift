internal import CMicroHTTPD
internal import Glibc

// What libmicrohttpd calls on its event threads. File-scope functions: a closure could be isolated to an actor, and the
// runtime traps when a foreign thread calls it.

func serverConnectionChanged(
    _ context: UnsafeMutableRawPointer?, _ connection: OpaquePointer?,
    _ socketContext: UnsafeMutablePointer<UnsafeMutableRawPointer?>?, _ code: MHD_ConnectionNotificationCode
) {
    guard let context, let connection, let socketContext else { return }
    let core = Unmanaged<ServerCore>.fromOpaque(context).takeUnretainedValue()
    if apus_mhd_is_start(code) != 0 {
        let address = SocketAddress(copying: apus_mhd_client_address(connection))?.host ?? ""
        let opened = core.open(socket: apus_mhd_socket(connection), remoteAddress: address)
        socketContext.pointee = Unmanaged.passRetained(opened).toOpaque()
    } else if let opened = socketContext.pointee {
        socketContext.pointee = nil
        core.close(Unmanaged<ServerConnection>.fromOpaque(opened).takeRetainedValue())
    }
}

/// The request line is there; what is returned becomes the request's own context.
func serverRequestLine(
    _ context: UnsafeMutableRawPointer?, _ target: UnsafePointer<CChar>?, _ connection: OpaquePointer?
) -> UnsafeMutableRawPointer? {
    guard let context, let target, let connection, let opened = apus_mhd_socket_context(connection) else { return nil }
    let core = Unmanaged<ServerCore>.fromOpaque(context).takeUnretainedValue()
    let owner = Unmanaged<ServerConnection>.fromOpaque(opened).takeUnretainedValue()
    let exchange = Exchange(core, owner, connection, target: String(cString: target))
    core.begin(exchange)
    return Unmanaged.passRetained(exchange).toOpaque()
}

func serverRequest(
    _: UnsafeMutableRawPointer?, _: OpaquePointer?, _: UnsafePointer<CChar>?, _ method: UnsafePointer<CChar>?,
    _: UnsafePointer<CChar>?, _ data: UnsafePointer<CChar>?, _ size: UnsafeMutablePointer<Int>?,
    _ context: UnsafeMutablePointer<UnsafeMutableRawPointer?>?
) -> MHD_Result {
    guard let method, let size, let context, let current = context.pointee else { return apus_MHD_NO }
    let exchange = Unmanaged<Exchange>.fromOpaque(current).takeUnretainedValue()
    let bytes = size.pointee > 0 ? UnsafeRawBufferPointer(start: data, count: size.pointee) : nil
    return exchange.advance(method: method, bytes, &size.pointee) ? apus_MHD_YES : apus_MHD_NO
}

func serverRequestCompleted(
    _ context: UnsafeMutableRawPointer?, _: OpaquePointer?,
    _ requestContext: UnsafeMutablePointer<UnsafeMutableRawPointer?>?, _: MHD_RequestTerminationCode
) {
    guard let context, let requestContext, let current = requestContext.pointee else { return }
    requestContext.pointee = nil
    let core = Unmanaged<ServerCore>.fromOpaque(context).takeUnretainedValue()
    core.end(Unmanaged<Exchange>.fromOpaque(current).takeRetainedValue())
}
