internal import CLibvirt
internal import Synchronization

/// How every link of a connection is opened.
struct LinkSettings: Sendable {
    let uri: String
    let isReadOnly: Bool
    let keepAliveSeconds: Int32
    /// 0: without.
    let keepAliveCount: UInt32

    init(uri: String, options: ConnectionOptions) {
        self.uri = uri
        isReadOnly = options.readOnly
        keepAliveSeconds = Int32(clamping: options.keepAliveInterval.components.seconds)
        keepAliveCount = UInt32(clamping: options.keepAliveCount)
    }
}

/// Owns a `virConnectPtr` and what is registered on it.
// Sendable: libvirt's connections may be used by several threads at once; the registrations are behind a mutex, and
// nobody uses a link when it is closed.
final class Link: @unchecked Sendable {
    private struct Registrations {
        var eventIDs: [Int32] = []
        var eventSinks: [EventSink] = []
        var closeSink: EventSink?
        var isDeregistered = false
        var isClosed = false
    }

    let pointer: virConnectPtr
    private let registrations = Mutex(Registrations())

    /// Connects. Blocks.
    init(opening settings: LinkSettings) throws(LibvirtError) {
        try refuseZero(in: settings.uri, "virConnectOpenAuth")
        let flags = settings.isReadOnly ? VIR_CONNECT_RO.rawValue : 0
        guard let pointer = virConnectOpenAuth(settings.uri, nil, flags) else { throw .last("virConnectOpenAuth") }
        self.pointer = pointer
        guard settings.keepAliveCount > 0,
            virConnectSetKeepAlive(pointer, settings.keepAliveSeconds, settings.keepAliveCount) < 0
        else { return }
        let error = LibvirtError.last("virConnectSetKeepAlive")
        // Drivers inside this process have no keepalive and need none.
        guard error.code == .noSupport else { throw error }
    }

    // Reached unclosed only when nobody waited for the opening any more.
    deinit { _ = close() }

    /// Whether the socket is open, as far as libvirt has noticed.
    var isAlive: Bool { virConnectIsAlive(pointer) == 1 }

    /// Tells `sink` of the end of this link. Blocks.
    func watchClose(_ sink: EventSink) throws(LibvirtError) {
        guard try sink.watchClose(of: pointer) else { return }
        registrations.withLock { $0.closeSink = sink }
    }

    /// Tells `sink` of domain events. Blocks for a round trip each.
    func subscribe(_ sink: EventSink) throws(LibvirtError) {
        let ids = try sink.register(on: pointer)
        registrations.withLock { registrations in
            registrations.eventIDs += ids
            registrations.eventSinks.append(sink)
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
        for id in registered.eventIDs { virConnectDomainEventDeregisterAny(pointer, id) }
        if registered.closeSink != nil { EventSink.unwatchClose(of: pointer) }
        return registered.eventSinks
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
        for id in registered.eventIDs { virConnectDomainEventDeregisterAny(pointer, id) }
        return Int(max(0, virConnectClose(pointer)))
    }
}
