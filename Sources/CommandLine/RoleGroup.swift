internal import Model
internal import Synchronization
internal import Telemetry

/// Roles that run until they are stopped together; one that ends by itself is told of.
final class RoleGroup: Sendable {
    private struct State {
        var roles: [(name: String, task: Task<Void, any Error>)] = []
    }

    private static let log = Logger("up")
    private let state = Mutex(State())
    private let tellsEnds: Bool

    /// - Parameter tellsEnds: whether the log says when a role has ended as it was asked to.
    init(tellsEnds: Bool = true) { self.tellsEnds = tellsEnds }

    private let ends = AsyncStream.makeStream(of: RoleEnd.self, bufferingPolicy: .bufferingNewest(8))

    private struct RoleEnd: Sendable {
        var role: String
        var error: (any Error)?
    }

    /// A role returned without having been asked to.
    struct EndedEarly: Error, Sendable, CustomStringConvertible {
        var role: String
        var description: String { "The \(role) has ended by itself; its log says why." }
    }

    func start(_ role: String, _ body: @escaping @Sendable () async throws -> Void) {
        let continuation = ends.continuation
        let task = Task {
            do {
                try await body()
                continuation.yield(RoleEnd(role: role, error: nil))
            } catch {
                continuation.yield(RoleEnd(role: role, error: error))
                throw error
            }
        }
        state.withLock { $0.roles.append((role, task)) }
    }

    /// Cancels the roles, last started first, each waited for before the next.
    func stop() async {
        for role in state.withLock({ $0.roles }).reversed() {
            let began = ContinuousClock.now
            role.task.cancel()
            _ = await role.task.result
            if tellsEnds {
                Self.log.info("ended", ["role": role.name, "seconds": (ContinuousClock.now - began).inSeconds])
            }
        }
    }

    /// Waits until a role of any group ends, and throws why; returns when the caller is cancelled.
    static func firstEnd(of groups: [RoleGroup]) async throws {
        let end = await withTaskGroup(of: RoleEnd?.self) { tasks in
            for group in groups {
                tasks.addTask {
                    for await end in group.ends.stream { return end }
                    return nil
                }
            }
            let first = await tasks.next() ?? nil
            tasks.cancelAll()
            return first
        }
        guard !Task.isCancelled, let end else { return }
        throw end.error ?? EndedEarly(role: end.role)
    }
}
