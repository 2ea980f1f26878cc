internal import CSystem
internal import FoundationEssentials
internal import Glibc
internal import HTTP
public import Model
internal import Synchronization
internal import Telemetry

/// The sockets of a fake hypervisor: at the destination one at which guests come in.
final class FakeLive: Sendable {
    private let listeners = Mutex<[MigrationID: TunnelListener]>([:])
    private let executor = BlockingExecutor(name: "fake-live", threads: 16)
    private let folder: String

    /// - Parameter folder: for the sockets; made when it is needed.
    init(folder: String?) {
        self.folder =
            folder ?? FileManager.default.temporaryDirectory.path + "/apus-fake-\(UInt32.random(in: 0...UInt32.max))"
    }

    deinit {
        executor.shutdown()
        rmdir(folder)
    }

    func socket(_ channel: LiveChannel, _ migration: MigrationID, isIncoming: Bool) -> String {
        "\(folder)/\(migration.rawValue.suffix(8))-\(isIncoming ? "in-" : "")\(channel.rawValue)"
    }

    func makeFolder() throws(Failure) {
        guard mkdir(folder, 0o700) == 0 || errno == EEXIST else { throw Failure(.storage, "no folder \(folder)") }
    }

    /// Takes the guests that come by the migration.
    func listen(_ migration: MigrationID, _ take: @escaping @Sendable (InstanceID) -> Bool) throws(Failure) {
        try makeFolder()
        guard listeners.withLock({ $0[migration] == nil }) else { return }
        do throws(TunnelError) {
            let listener = try TunnelListener(path: socket(.control, migration, isIncoming: true))
            listeners.withLock { $0[migration] = listener }
            let (executor, folder) = (executor, folder)
            Task {
                await executor.run {
                    // Fails while another migration has something in it.
                    defer { rmdir(folder) }
                    listener.run { socket in
                        let local = LocalSocket(socket)
                        var bytes = [UInt8](repeating: 0, count: 64)
                        var got = 0
                        var isReady = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
                        while got < 36, poll(&isReady, 1, 5_000) == 1 {
                            let count = bytes[got...].withUnsafeMutableBytes { read(socket, $0.baseAddress, 36 - got) }
                            guard count > 0 else { break }
                            got += count
                        }
                        let isTaken = got == 36 && take(InstanceID(String(decoding: bytes.prefix(36), as: UTF8.self)))
                        var answer: UInt8 = isTaken ? 1 : 0
                        _ = write(local.descriptor, &answer, 1)
                    }
                }
            }
        } catch {
            throw Failure(.storage, error.description)
        }
    }

    /// Sends the guest; whether the other side has taken it.
    func send(_ id: InstanceID, _ path: String) async -> Bool {
        await executor.run {
            guard let socket = connectToUnixSocket(path) else { return false }
            let local = LocalSocket(socket)
            let bytes = Array(id.rawValue.utf8)
            var answer: UInt8 = 0
            guard apus_set_blocking(socket) == 0 else { return false }
            return write(local.descriptor, bytes, bytes.count) == bytes.count && read(local.descriptor, &answer, 1) == 1
                && answer == 1
        }
    }

    func end(_ migration: MigrationID) {
        listeners.withLock { $0.removeValue(forKey: migration) }?.end()
        rmdir(folder)
    }
}

// A guest goes over as its id on the control channel; the destination then has its domain, which stands still.
extension FakeDriver {
    public func offerGuest(_ guest: GuestSpecification, for migration: MigrationID) async throws -> LiveOffer {
        let id = guest.instance.id
        return try await perform(.offerGuest, id) { state in
            guard let domain = state.domains[id], domain.isOn else {
                throw Failure(.conflict, "instance \(id) does not run here")
            }
            return LiveOffer(
                xml: domain.name, hypervisorType: "fake", hypervisorVersion: 1,
                disks: [
                    LiveDisk(
                        name: "disk", target: "vda", format: .qcow2, sizeBytes: 1 << 30, dataBytes: 0,
                        backing: guest.image.sha512)
                ], files: [])
        }
    }

    public func withdrawOffer(_ id: InstanceID, of migration: MigrationID) async throws {
        try await perform(.withdrawOffer, id) { _ in }
    }

    public func readOffered(_ id: InstanceID, file: String, at offset: Int64, count: Int) async throws -> [UInt8] {
        throw Failure(.notFound, "there is no file \(file) that is offered")
    }

    public func receiveGuest(
        _ guest: GuestSpecification, of migration: MigrationID, _ offer: LiveOffer, from files: any MovedFiles,
        isBlockMigration: Bool?
    ) async throws -> LiveAnswer {
        let id = guest.instance.id
        let answer = try await perform(.receiveGuest, id) { state in
            guard isBlockMigration != false else {
                throw Failure(.invalidParameters, "the hosts do not have the same folder")
            }
            guard state.images.contains(guest.image.sha512) else {
                throw Failure(.storage, "image \(guest.image.id) is not in the cache")
            }
            state.disks.insert(id)
            state.takenOver[id] = migration
            return LiveAnswer(xml: offer.xml, copiedDisks: ["vda"])
        }
        let (host, interfaces) = (host, Set(guest.interfaces.map(\.macAddress)))
        try live.listen(migration) { came in
            host.change { state in
                guard came == id, state.takenOver[id] == migration, state.domains[id] == nil else { return false }
                var domain = FakeHost.Domain(name: offer.xml, powerState: .paused, isOurs: true)
                (domain.interfaces, domain.plugged) = (interfaces, interfaces)
                state.domains[id] = domain
                return true
            }
        }
        return answer
    }

    public func liveSocket(_ channel: LiveChannel, of migration: MigrationID) async throws -> String {
        live.socket(channel, migration, isIncoming: true)
    }

    public func makeLiveSockets(of migration: MigrationID) async throws -> LiveSockets {
        try live.makeFolder()
        let paths = LiveChannel.allCases.map { ($0, live.socket($0, migration, isIncoming: false)) }
        return LiveSockets(paths: Dictionary(uniqueKeysWithValues: paths), owner: nil)
    }

    public func departure(_ id: InstanceID, isRunning: Bool) async throws -> Departure {
        try await perform(.departure, id) { state in
            guard let domain = state.domains[id] else { return .left }
            guard domain.isOn else { return .unknown }
            if isRunning, domain.powerState == .paused { state.domains[id]?.powerState = .running }
            return .stayed
        }
    }

    public func hasArrived(_ id: InstanceID) async throws -> Bool {
        try await perform(.hasArrived, id) { state in state.domains[id] != nil }
    }

    public func removeLiveSockets(of migration: MigrationID) async throws { live.end(migration) }

    public func sendGuest(
        _ id: InstanceID, _ plan: LivePlan,
        progress: @escaping @Sendable (MigrationProgress, _ isPostCopy: Bool) async -> Void,
        gone: @escaping @Sendable () async -> Void
    ) async throws {
        guard host.state.domains[id] != nil else { return }
        await progress(MigrationProgress(memoryTotal: 100, memoryProcessed: 50, memoryRemaining: 50), false)
        // Before the point of no return.
        try await perform(.sendGuest, id) { _ in }
        guard await live.send(id, plan.sockets.paths[.control] ?? "") else {
            throw Failure(.hypervisor, "the other host has not taken instance \(id)")
        }
        try await perform(.guestLeaves, id) { state in
            state.domains[id] = nil
        }
        await gone()
        // The hypervisor's word for it.
        try await perform(.sendEnds, id) { _ in }
    }

    public func forceGuest(_ id: InstanceID) async throws -> Bool {
        try await perform(.forceGuest, id) { state in
            guard state.domains[id]?.isOn == true else { throw Failure(.conflict, "instance \(id) is not being sent") }
            return false
        }
    }

    public func goOn(_ id: InstanceID) async throws {
        try await onDomain(.goOn, id) { _, domain in
            guard domain.isOn else { throw Failure(.hypervisor, "\(domain.name) has come here, and is off") }
            domain.powerState = .running
        }
    }

    public func settleGuest(_ guest: GuestSpecification, of migration: MigrationID) async throws {
        try await define(guest)
        live.end(migration)
    }
}
