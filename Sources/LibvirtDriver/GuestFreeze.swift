internal import Compute
internal import Libvirt
internal import Model
internal import Telemetry
internal import XML

/// Holds a guest's file systems still while a copy begins, and lets them go on whatever happens.
///
/// A mark on disk says that the guest is, or may be, frozen; it outlives the agent, and goes when the guest was thawed.
struct GuestFreeze: Sendable {
    /// What the mark says.
    private enum Mark: String {
        /// The guest was asked, and has not answered.
        case asked
        case frozen
    }

    /// How long the agent may take to write out the file systems, and to let go of them.
    private static let freezeSeconds = 20
    private static let thawSeconds = 10
    private static let thawAttempts = 3

    let driver: LibvirtDriver
    let place: SnapshotPlace
    private let log = Logger("snapshots")

    init(_ driver: LibvirtDriver, _ place: SnapshotPlace) { (self.driver, self.place) = (driver, place) }

    private var domain: DomainReference { .uuid(place.id.rawValue) }

    /// Freezes as `quiesce` says; a failure leaves the guest thawed.
    /// - Returns: whether the guest is frozen, so that `thaw` must follow.
    func freeze(_ quiesce: SnapshotRequest.Quiesce, _ document: XMLNode) async throws -> Bool {
        guard quiesce != .no else { return false }
        do {
            guard Self.isAgentConnected(document) else {
                throw Failure(.conflict, "the guest \(place.id) has no agent that answers, and must be quiesced")
            }
            try await write(.asked)
            let connection = try await driver.connection(.work)
            do {
                try await connection.freezeFileSystems(domain, seconds: Self.freezeSeconds)
            } catch {
                // Whatever hangs in a guest hangs the next time too, and each attempt holds the user up.
                throw LibvirtDriver.agentFailure(error, "\(place.id)")
            }
            try await write(.frozen)
            return true
        } catch {
            try await regardless { try await thaw() }
            if quiesce == .required || Task.isCancelled { throw error }
            log.notice("a guest is copied without being quiesced", ["instance": place.id, "error": LoggedError(error)])
            return false
        }
    }

    /// Lets the guest go on if the mark is there, and removes it. Nothing without a mark, or when the guest is off.
    ///
    /// The mark stays where a guest that never said that it froze anything does not answer: it may yet do what it was
    /// asked. Whoever comes by later, the periodic removal of dead copies too, then tries again.
    /// - Throws: when a guest that was frozen does not answer.
    func thaw() async throws {
        guard let mark = try await read() else { return }
        let attempts = mark == .frozen ? Self.thawAttempts : 1
        var attempt = 1
        while try await driver.status(of: place.id)?.state.isActive == true {
            do {
                try await driver.connection(.work).thawFileSystems(domain, seconds: Self.thawSeconds)
                break
            } catch let error as LibvirtError {
                if error.code == .noDomain { break }
                if attempt == attempts {
                    guard mark == .asked, error.code == .agentUnresponsive || error.code == .agentMissing else {
                        throw Failure(error, "thawing the file systems of \(place.id)")
                    }
                    log.warning("an agent that does not answer is told to thaw later", ["instance": place.id])
                    return
                }
                attempt += 1
            }
        }
        try await driver.files.run { () throws(Failure) in try Files.remove(place.frozenMark) }
    }

    /// Whether the running domain's agent has opened its channel. Where it has not, nothing would answer.
    static func isAgentConnected(_ document: XMLNode) -> Bool {
        document.all("devices/channel/target").contains {
            $0["name"] == "org.qemu.guest_agent.0" && $0["state"] == "connected"
        }
    }

    private func write(_ mark: Mark) async throws {
        try await driver.files.run { () throws(Failure) in
            try Files.write(Array(mark.rawValue.utf8), to: place.frozenMark, mode: 0o600)
        }
    }

    private func read() async throws -> Mark? {
        try await driver.files.run { () throws(Failure) in
            guard let bytes = try Files.read(place.frozenMark, limit: 64) else { return nil }
            // What was cut off by a crash was being written before the guest was asked.
            return Mark(rawValue: String(decoding: bytes, as: UTF8.self)) ?? .asked
        }
    }
}

/// Runs `body` to its end even when the caller is cancelled: what holds a guest must be let go.
func regardless<T: Sendable>(_ body: @escaping @Sendable () async throws -> T) async throws -> T {
    try await Task { try await body() }.value
}
