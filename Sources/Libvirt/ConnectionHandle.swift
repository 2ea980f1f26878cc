internal import CLibvirt
internal import Synchronization

/// Owns a `virConnectPtr` and what is registered on it.
// Sendable: libvirt's connections may be used by several threads at once; the registrations are behind a mutex, and
// `close()` is called once, when the gate has let the last borrower go.
final class ConnectionHandle: @unchecked Sendable {
    private struct Registrations {
        var ids: [Int32] = []
        var watchesClose = false
        var sinks: [EventSink] = []
        var isDeregistered = false
        var isClosed = false
    }

    private let pointer: virConnectPtr
    private let registrations = Mutex(Registrations())

    /// Takes over a reference the caller owns (`+1`).
    init(owning pointer: virConnectPtr) { self.pointer = pointer }

    // Reached unclosed only when nobody waited for the opening any more.
    deinit { _ = close() }

    func keep(_ sink: EventSink, _ registered: (ids: [Int32], watchesClose: Bool)) {
        registrations.withLock { registrations in
            registrations.ids += registered.ids
            registrations.watchesClose = registrations.watchesClose || registered.watchesClose
            registrations.sinks.append(sink)
        }
    }

    /// Runs `body`, and tells the subscribers when it found the connection broken.
    func borrow<T>(
        _ body: (virConnectPtr, ConnectionHandle) throws(LibvirtError) -> T
    ) throws(LibvirtError) -> T {
        do {
            return try body(pointer, self)
        } catch  where error.code == .connectionLost {
            // The daemon relays errors of its own connections (to the peer of a migration) with the same codes.
            guard virConnectIsAlive(pointer) != 1 else {
                throw LibvirtError(.operationFailed, call: error.call, message: error.message)
            }
            for sink in registrations.withLock({ $0.sinks }) { sink.yield(.closed(.callFailed(error.call))) }
            throw error
        }
    }

    /// Takes back what is registered. Blocks. Does nothing the second time.
    /// - Returns: the sinks that libvirt may still hold for as long as events are on their way to them.
    func deregister() -> [EventSink] {
        let registered = registrations.withLock { registrations in
            defer { registrations.isDeregistered = true }
            return registrations
        }
        guard !registered.isDeregistered else { return [] }
        // A registration holds a reference, with which the socket would stay open.
        for id in registered.ids { virConnectDomainEventDeregisterAny(pointer, id) }
        if registered.watchesClose { EventSink.unwatchClose(of: pointer) }
        return registered.sinks
    }

    /// Gives the reference back. Blocks. Does nothing the second time.
    /// - Returns: the references that libvirt still counts.
    func close() -> Int {
        _ = deregister()
        let registered = registrations.withLock { registrations in
            defer { registrations = Registrations(isDeregistered: true, isClosed: true) }
            return registrations
        }
        guard !registered.isClosed else { return 0 }
        // libvirt releases a registration's sink a moment before its reference, both under a lock that this takes:
        // the ids are gone, so it does nothing else.
        for id in registered.ids { virConnectDomainEventDeregisterAny(pointer, id) }
        return Int(max(0, virConnectClose(pointer)))
    }
}
