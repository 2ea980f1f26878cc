internal import HostTopology
public import Metadata
public import Model
internal import Synchronization

/// A complete hypervisor driver in memory, for tests of everything above the driver.
///
/// It behaves as the contract says (idempotent, refuses guests of others, tells events); failures can be scripted per
/// call and count, and calls can be held until a test lets them go.
public final class FakeDriver: VirtDriver {
    public typealias Hook = @Sendable (DriverCall, DriverCallPhase, InstanceID?) async throws -> Void

    public let host: FakeHost
    public let events: AsyncStream<GuestEvent>
    private let hostCapacity: Mutex<HostCapacity>
    private let booted: ContinuousClock.Instant
    private let eventSink: AsyncStream<GuestEvent>.Continuation
    private let script = Mutex(FakeScript())
    private let hook: Hook?
    private let imageFetch = FakeTurn()
    let live: FakeLive

    /// A driver of `host`. `hook` is called before and after every effect; what it throws the call throws.
    /// - Parameter socketFolder: where the sockets of live migrations are; `nil` for one that is made when it is needed.
    public init(
        host: FakeHost = FakeHost(), capacity: HostCapacity = .fake, socketFolder: String? = nil, hook: Hook? = nil
    ) {
        self.host = host
        live = FakeLive(folder: socketFolder)
        self.hook = hook
        hostCapacity = Mutex(capacity)
        booted = .now
        (events, eventSink) = AsyncStream.makeStream(bufferingPolicy: .bufferingOldest(4_096))
    }

    // MARK: The test's side

    /// Makes `call` throw `failure`, on the calls numbered `calls` (from 1); every call when left out. With
    /// `afterEffect` the work is done first, as when an answer is lost.
    public func fail(
        _ call: DriverCall, _ failure: Failure, calls: ClosedRange<Int> = 1...Int.max, afterEffect: Bool = false
    ) {
        script.withLock {
            $0.rules[call, default: []].append(.init(failure: failure, calls: calls, isAfterEffect: afterEffect))
        }
    }

    /// Forgets all scripted failures.
    public func heal() { script.withLock { $0.rules = [:] } }

    /// How often `call` was made.
    public func count(_ call: DriverCall) -> Int { script.withLock { $0.counts[call, default: 0] } }

    /// Makes `call` hang, until `release(_:)` or the caller's cancellation.
    public func hold(_ call: DriverCall) { script.withLock { _ = $0.held.insert(call) } }

    /// Lets held calls go on.
    public func release(_ call: DriverCall) {
        let waiters = script.withLock { script in
            script.held.remove(call)
            return script.waiters.removeValue(forKey: call) ?? [:]
        }
        for waiter in waiters.values { waiter.resume() }
    }

    /// Waits until a caller hangs in a held `call`.
    public func reached(_ call: DriverCall) async {
        await withCheckedContinuation { continuation in
            let isThere = script.withLock { script in
                if script.waiters[call]?.isEmpty == false { return true }
                script.arrivals[call, default: []].append(continuation)
                return false
            }
            if isThere { continuation.resume() }
        }
    }

    /// Puts a guest into another power state as if by itself, and tells it.
    public func guestChanged(_ id: InstanceID, to powerState: PowerState) {
        host.change { $0.domains[id]?.powerState = powerState }
        eventSink.yield(.changed(id))
    }

    /// Makes the host another: what is plugged into it, taken offline or mounted while it runs.
    public func changeCapacity(_ change: (inout HostCapacity) -> Void) { hostCapacity.withLock { change(&$0) } }

    /// Removes a guest's domain as somebody at the host could, and tells it.
    public func guestVanished(_ id: InstanceID) {
        host.change { _ = $0.domains.removeValue(forKey: id) }
        eventSink.yield(.changed(id))
    }

    public func send(_ event: GuestEvent) { eventSink.yield(event) }

    // MARK: VirtDriver

    public func start() async throws {
        try await perform(.start, nil) { _ in }
        eventSink.yield(.resynchronise)
    }

    public func stop() async { eventSink.finish() }

    public func capacity() async throws -> HostCapacity {
        try await perform(.capacity, nil) { _ in }
        var capacity = hostCapacity.withLock { $0 }
        capacity.uptimeSeconds = capacity.uptimeSeconds.map { $0 + (ContinuousClock.now - booted).components.seconds }
        return capacity
    }

    public func hostMetrics() async throws -> [HostMetric] {
        try await perform(.hostMetrics, nil) { _ in
            [HostMetric(name: "cpu.percent", value: 0.25, source: "fake", measuredAt: Timestamp(microseconds: 1))]
        }
    }

    public func hostDevices() async throws -> [PCIDevice] { try await perform(.hostDevices, nil) { $0.devices } }

    public func mediatedDeviceParents() async throws -> [MediatedDeviceParent] {
        try await perform(.mediatedDeviceParents, nil) { $0.mediatedParents }
    }

    public func createMediatedDevices(_ devices: [MediatedDevice]) async throws {
        try await perform(.createMediatedDevices, nil) { state in
            for device in devices { try state.createMediatedDevice(device) }
        }
    }

    public func removeMediatedDevices(_ devices: [MediatedDevice]) async throws {
        try await perform(.removeMediatedDevices, nil) { state in
            let used = state.domains.values.filter(\.isOn).flatMap(\.mediatedDevices)
            guard !devices.contains(where: { used.contains($0.uuid) }) else {
                throw Failure(.hypervisor, "a mediated device is in use", isRetriable: true)
            }
            for device in devices { state.removeMediatedDevice(device.uuid) }
        }
    }

    public func guestBridges() async throws -> [String] { try await perform(.guestBridges, nil) { $0.bridges } }

    public func guest(onBridge bridge: String, macAddress: String) async throws -> InstanceID? {
        try await perform(.guestOnBridge, nil) { state in
            guard state.bridges.contains(bridge) else { return nil }
            return state.networks.first { $0.value.contains { $0.macAddress == macAddress } }?.key
        }
    }

    public func metadataSettings() async throws -> MetadataSettings { MetadataSettings(domain: "novalocal") }

    public func guests() async throws -> [GuestObservation] {
        try await perform(.guests, nil) { state in
            state.domains.map { id, domain in
                GuestObservation(
                    id: id, name: domain.name, powerState: domain.powerState, isOurs: domain.isOurs, size: domain.size)
            }
        }
    }

    public func observe(_ id: InstanceID) async throws -> GuestObservation? {
        try await perform(.observe, id) { state in
            state.domains[id].map { domain in
                GuestObservation(id: id, name: domain.name, powerState: domain.powerState, isOurs: domain.isOurs)
            }
        }
    }

    public func prepareImage(
        _ image: ImageReference, for flavor: Flavor, source: @escaping ImageSource
    ) async throws {
        if flavor.rootGiB > 0, image.virtualSizeBytes > Int64(flavor.rootGiB) << 30 {
            throw Failure(
                .imageUnacceptable,
                "image \(image.id) needs \(image.virtualSizeBytes) bytes, the flavor's disk has \(flavor.rootGiB) GiB")
        }
        try await cacheImage(image, source: source)
    }

    public func cacheImage(_ image: ImageReference, source: @escaping ImageSource) async throws {
        try await imageFetch.take()
        defer { imageFetch.give() }
        guard !host.state.images.contains(image.sha512) else { return }
        let received = Atomic<Int>(0)
        try await source(0) { received.wrappingAdd($0.count, ordering: .relaxed) }
        guard received.load(ordering: .relaxed) == Int(image.sizeBytes) else {
            throw Failure(.imageUnacceptable, "image \(image.id) is not what it claims to be")
        }
        try await perform(.prepareImage, nil) { _ = $0.images.insert(image.sha512) }
    }

    public func plugNetwork(_ instance: Instance) async throws -> [NetworkInterface] {
        try await perform(.plugNetwork, instance.id) { state in
            if let known = state.networks[instance.id] { return known }
            guard instance.networks == .auto else { return [] }
            let interface = state.makeInterface()
            state.networks[instance.id] = [interface]
            return [interface]
        }
    }

    public func unplugNetwork(_ id: InstanceID, _ interfaces: [NetworkInterface]) async throws {
        try await perform(.unplugNetwork, id) { _ = $0.networks.removeValue(forKey: id) }
    }

    public func createDisks(_ guest: GuestSpecification) async throws {
        try await perform(.createDisks, guest.instance.id) { state in
            guard state.images.contains(guest.image.sha512) else {
                throw Failure(.storage, "image \(guest.image.id) is not in the cache")
            }
            state.disks.insert(guest.instance.id)
        }
    }

    public func removeDisks(_ id: InstanceID) async throws {
        try await perform(.removeDisks, id) { state in
            if let domain = state.domains[id], domain.isOurs, domain.isOn {
                throw Failure(.storage, "the disks of \(domain.name) are in use")
            }
            state.disks.remove(id)
            state.takenOver[id] = nil
            state.configDrives.removeValue(forKey: id)
            state.injectedFiles.removeValue(forKey: id)
            state.rescueDisks.removeValue(forKey: id)
            state.consoles.removeValue(forKey: id)
        }
    }

    public func limitConsoleLogs(of guests: [InstanceID], to limit: Int64) async throws {
        try await perform(.limitConsoleLogs, nil) { state in
            for id in guests {
                guard let console = state.consoles[id], console.count > limit else { continue }
                state.consoles[id] = Array(console.suffix(Int(limit / 2)))
            }
        }
    }

    public func tidyImageCache() async throws { try await perform(.tidyImageCache, nil) { _ in } }

    public func writeConfigDrive(_ guest: GuestSpecification, secrets: ConfigDriveSecrets) async throws {
        try await perform(.writeConfigDrive, guest.instance.id) { state in
            guard state.disks.contains(guest.instance.id) else {
                throw Failure(.storage, "instance \(guest.instance.id) has no folder")
            }
            guard guest.rescueImage == nil else {
                return _ = state.rescueDisks.updateValue(secrets.adminPassword, forKey: guest.instance.id)
            }
            state.configDrives.updateValue(secrets.adminPassword, forKey: guest.instance.id)
            state.injectedFiles[guest.instance.id] = secrets.files.map(\.path)
        }
    }

    public func define(_ guest: GuestSpecification) async throws {
        let id = guest.instance.id
        try await perform(.define, id) { state in
            if let known = state.domains[id] {
                guard known.isOurs else { throw Failure(.conflict, "domain \(known.name) is not ours") }
            }
            if guest.rescueImage != nil, state.rescueDisks[id] == nil {
                throw Failure(.storage, "instance \(id) has no rescue disk")
            }
            var domain =
                state.domains[id] ?? .init(name: guest.instance.domainName, powerState: .shutdown, isOurs: true)
            domain.rescueImage = guest.rescueImage?.id
            domain.image = guest.image.id
            domain.cpus = guest.placement?.dedicatedCPUs
            domain.devices = guest.devices?.map(\.address) ?? []
            domain.mediatedDevices = guest.mediatedDevices?.map(\.uuid) ?? []
            domain.interfaces = Set(guest.interfaces.map(\.macAddress))
            state.domains[id] = domain
        }
    }

    public func powerOn(_ id: InstanceID) async throws {
        try await onDomain(.powerOn, id) { state, domain in
            guard !domain.isOn else { return }
            guard state.disks.contains(id) else { throw Failure(.hypervisor, "domain \(domain.name) has no disk") }
            guard state.mediatedDevices.isSuperset(of: domain.mediatedDevices) else {
                throw Failure(.hypervisor, "a mediated device of domain \(domain.name) does not exist")
            }
            domain.powerState = .running
            domain.plugged = domain.interfaces
            if domain.hasSavedMemory {
                domain.hasSavedMemory = false
                return
            }
            domain.starts += 1
            state.consoles[id, default: []] += Array("boot \(domain.starts)\n".utf8)
        }
    }

    public func powerOff(_ id: InstanceID, grace: Duration) async throws {
        try await perform(.powerOff, id) { state in
            guard var domain = state.domains[id] else { return }
            guard domain.isOurs else { throw Failure(.conflict, "domain \(domain.name) is not ours") }
            domain.powerState = .shutdown
            domain.plugged = []
            state.domains[id] = domain
        }
        eventSink.yield(.changed(id))
    }

    public func softReboot(_ id: InstanceID, grace: Duration) async throws -> Bool {
        try await onDomain(.softReboot, id) { state, domain in
            guard domain.powerState == .running else { return false }
            domain.starts += 1
            state.consoles[id, default: []] += Array("boot \(domain.starts)\n".utf8)
            return true
        }
    }

    public func undefine(_ id: InstanceID) async throws {
        try await perform(.undefine, id) { state in
            guard let domain = state.domains[id] else { return }
            guard domain.isOurs else { throw Failure(.conflict, "domain \(domain.name) is not ours") }
            guard !domain.isOn else { throw Failure(.hypervisor, "domain \(domain.name) is running") }
            state.domains.removeValue(forKey: id)
        }
    }

    public func consoleLog(_ id: InstanceID, limit: Int) async throws -> [UInt8] {
        try await perform(.consoleLog, id) { Array($0.consoles[id, default: []].suffix(limit)) }
    }

    // MARK: Machinery

    func onDomain<T: Sendable>(
        _ call: DriverCall, _ id: InstanceID, _ effect: (inout FakeHost.State, inout FakeHost.Domain) throws -> T
    ) async throws -> T {
        let result = try await perform(call, id) { state in
            guard var domain = state.domains[id] else { throw Failure(.notFound, "instance \(id) has no domain here") }
            guard domain.isOurs else { throw Failure(.conflict, "domain \(domain.name) is not ours") }
            let result = try effect(&state, &domain)
            state.domains[id] = domain
            return result
        }
        eventSink.yield(.changed(id))
        return result
    }

    func perform<T: Sendable>(
        _ call: DriverCall, _ id: InstanceID?, _ effect: (inout FakeHost.State) throws -> T
    ) async throws -> T {
        let rule = script.withLock { $0.begin(call) }
        try await waitIfHeld(call)
        try Task.checkCancellation()
        try await hook?(call, .before, id)
        if let rule, !rule.isAfterEffect { throw rule.failure }
        let result = host.change { state in Result { try effect(&state) } }
        let value = try result.get()
        try await hook?(call, .after, id)
        if let rule { throw rule.failure }
        return value
    }

    private func waitIfHeld(_ call: DriverCall) async throws {
        let ticket = script.withLock { script -> Int? in
            guard script.held.contains(call) else { return nil }
            script.nextWaiter += 1
            return script.nextWaiter
        }
        guard let ticket else { return }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let arrivals = script.withLock { script -> [CheckedContinuation<Void, Never>]? in
                    guard script.held.contains(call), !Task.isCancelled else { return nil }
                    script.waiters[call, default: [:]][ticket] = continuation
                    return script.arrivals.removeValue(forKey: call) ?? []
                }
                guard let arrivals else { return continuation.resume() }
                for arrival in arrivals { arrival.resume() }
            }
        } onCancel: {
            script.withLock { $0.waiters[call]?.removeValue(forKey: ticket) }?.resume()
        }
        try Task.checkCancellation()
    }
}

/// Lets one caller in at a time, in the order they came.
private final class FakeTurn: Sendable {
    private struct State {
        var isTaken = false
        var next = 0
        var queue: [(Int, CheckedContinuation<Bool, Never>)] = []
    }

    private let state = Mutex(State())

    /// Returns when it is the caller's turn; throws when the caller was cancelled before.
    func take() async throws {
        let ticket = state.withLock { state in
            state.next += 1
            return state.next
        }
        let isOurs = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let answer = state.withLock { state -> Bool? in
                    if Task.isCancelled { return false }
                    if !state.isTaken {
                        state.isTaken = true
                        return true
                    }
                    state.queue.append((ticket, continuation))
                    return nil
                }
                if let answer { continuation.resume(returning: answer) }
            }
        } onCancel: {
            let waiting = state.withLock { state -> CheckedContinuation<Bool, Never>? in
                guard let index = state.queue.firstIndex(where: { $0.0 == ticket }) else { return nil }
                return state.queue.remove(at: index).1
            }
            waiting?.resume(returning: false)
        }
        if !isOurs { throw CancellationError() }
    }

    func give() {
        let next = state.withLock { state -> CheckedContinuation<Bool, Never>? in
            guard !state.queue.isEmpty else {
                state.isTaken = false
                return nil
            }
            return state.queue.removeFirst().1
        }
        next?.resume(returning: true)
    }
}
