internal import CLibvirt
internal import Synchronization
internal import Telemetry

/// Where libvirt's callbacks of one connection deliver. Each registration for domain events holds a reference that
/// libvirt's own free callback gives back, so that a late event never meets a freed sink.
final class EventSink: Sendable {
    private let deliver: @Sendable (ConnectionEvent) -> Void
    private let hasClosed = Mutex(false)
    private let registrations = Mutex(0)
    private let ended = OneShot<Void>()

    /// - Parameter deliver: runs on libvirt's event thread: hands over and returns.
    init(_ deliver: @escaping @Sendable (ConnectionEvent) -> Void) { self.deliver = deliver }

    func yield(_ event: ConnectionEvent) {
        if case .closed = event {
            let isFirst = hasClosed.withLock { closed in
                defer { closed = true }
                return !closed
            }
            guard isFirst else { return }
        }
        deliver(event)
    }

    /// Registers for domain events. Blocks for a round trip each.
    /// - Returns: the ids that `virConnectDomainEventDeregisterAny` ends.
    func register(on connection: virConnectPtr) throws(LibvirtError) -> [Int32] {
        var ids: [Int32] = []
        do {
            ids.append(
                try retained("virConnectDomainEventRegisterAny") {
                    apusRegisterLifecycle(connection, onLifecycle, $0, releaseSink)
                })
            ids.append(
                try retained("virConnectDomainEventRegisterAny") {
                    apusRegisterReboot(connection, onReboot, $0, releaseSink)
                })
            ids.append(
                try retained("virConnectDomainEventRegisterAny") {
                    apusRegisterDeviceRemoved(connection, onDeviceRemoved, $0, releaseSink)
                })
            ids.append(
                try retained("virConnectDomainEventRegisterAny") {
                    apusRegisterDeviceRemovalFailed(connection, onDeviceRemovalFailed, $0, releaseSink)
                })
            ids.append(
                try retained("virConnectDomainEventRegisterAny") {
                    apusRegisterJobCompleted(connection, onJobCompleted, $0, releaseSink)
                })
        } catch {
            for id in ids { virConnectDomainEventDeregisterAny(connection, id) }
            throw error
        }
        return ids
    }

    /// Registers for the connection's end. Blocks for a round trip.
    ///
    /// Not retained, because drivers that ignore the callback ignore its free callback too: the caller keeps the sink
    /// until it has taken the callback back, which waits for one that runs.
    /// - Returns: whether the driver has it.
    func watchClose(of connection: virConnectPtr) throws(LibvirtError) -> Bool {
        let reference = Unmanaged.passUnretained(self).toOpaque()
        if virConnectRegisterCloseCallback(connection, onClose, reference, nil) == 0 { return true }
        let error = LibvirtError.last("virConnectRegisterCloseCallback")
        guard error.code == .noSupport else { throw error }
        return false
    }

    /// Returns when libvirt has let go of every registration for domain events, or gave up waiting. To be awaited once,
    /// after they were taken back: while an event is on its way libvirt keeps them until it has been delivered.
    func waitUntilReleased(atMost limit: Duration) async {
        let ended = ended
        let watchdog = Task {
            do { try await AlarmClock().sleep(for: limit) } catch { return }
            ended.fulfil(())
        }
        defer { watchdog.cancel() }
        await ended.value
    }

    fileprivate func released() {
        let left = registrations.withLock { count in
            count -= 1
            return count
        }
        if left == 0 { ended.fulfil(()) }
    }

    /// Takes the close callback back. Blocks.
    static func unwatchClose(of connection: virConnectPtr) {
        virConnectUnregisterCloseCallback(connection, onClose)
    }

    private func retained(
        _ call: String, _ register: (UnsafeMutableRawPointer) -> Int32
    ) throws(LibvirtError) -> Int32 {
        let reference = Unmanaged.passRetained(self)
        registrations.withLock { $0 += 1 }
        let id = register(reference.toOpaque())
        guard id >= 0 else {
            let error = LibvirtError.last(call)
            registrations.withLock { $0 -= 1 }
            reference.release()
            throw error
        }
        return id
    }
}

// What follows runs on libvirt's event thread: it reads what the pointers hold, hands over, and returns. File-scope
// functions, because a closure would be isolated to its surroundings and trap there.

private func sink(_ opaque: UnsafeMutableRawPointer?) -> EventSink? {
    opaque.map { Unmanaged<EventSink>.fromOpaque($0).takeUnretainedValue() }
}

private func onLifecycle(
    _: virConnectPtr?, domain: virDomainPtr?, event: Int32, detail: Int32, opaque: UnsafeMutableRawPointer?
) -> Int32 {
    guard let domain, let sink = sink(opaque), let identity = try? DomainIdentity(reading: domain) else { return 0 }
    sink.yield(.lifecycle(DomainEvent(uuid: identity.uuid, name: identity.name, event: event, detail: detail)))
    return 0
}

private func onReboot(_: virConnectPtr?, domain: virDomainPtr?, opaque: UnsafeMutableRawPointer?) {
    guard let domain, let sink = sink(opaque), let identity = try? DomainIdentity(reading: domain) else { return }
    sink.yield(.reboot(uuid: identity.uuid, name: identity.name))
}

private func onDeviceRemoved(
    _: virConnectPtr?, domain: virDomainPtr?, alias: UnsafePointer<CChar>?, opaque: UnsafeMutableRawPointer?
) {
    tellRemoval(domain, alias, opaque, isRemoved: true)
}

private func onDeviceRemovalFailed(
    _: virConnectPtr?, domain: virDomainPtr?, alias: UnsafePointer<CChar>?, opaque: UnsafeMutableRawPointer?
) {
    tellRemoval(domain, alias, opaque, isRemoved: false)
}

private func tellRemoval(
    _ domain: virDomainPtr?, _ alias: UnsafePointer<CChar>?, _ opaque: UnsafeMutableRawPointer?, isRemoved: Bool
) {
    guard let domain, let alias, let sink = sink(opaque), let identity = try? DomainIdentity(reading: domain) else {
        return
    }
    let removal = DeviceRemoval(uuid: identity.uuid, alias: String(cString: alias), isRemoved: isRemoved)
    sink.yield(.deviceRemoval(removal))
}

private func onJobCompleted(
    _: virConnectPtr?, domain: virDomainPtr?, parameters: UnsafeMutablePointer<virTypedParameter>?, count: Int32,
    opaque: UnsafeMutableRawPointer?
) {
    guard let domain, let sink = sink(opaque), let identity = try? DomainIdentity(reading: domain) else { return }
    let values = decodeParameters(parameters, count: Int(count))
    sink.yield(.jobEnded(JobEnd(uuid: identity.uuid, values)))
}

private func onClose(_: virConnectPtr?, reason: Int32, opaque: UnsafeMutableRawPointer?) {
    sink(opaque)?.yield(.closed(CloseReason(number: reason)))
}

private func releaseSink(_ opaque: UnsafeMutableRawPointer?) {
    guard let opaque else { return }
    Unmanaged<EventSink>.fromOpaque(opaque).takeRetainedValue().released()
}
