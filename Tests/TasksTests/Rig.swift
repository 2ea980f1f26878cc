import Model
import Tasks

/// An engine in virtual time on a storage in memory.
struct Rig {
    let clock = TestClock()
    let storage: any TaskStorage
    let recorder = Recorder()

    init(storage: any TaskStorage = MemoryTaskStorage()) { self.storage = storage }

    func engine(
        owner: String = "one", storage: (any TaskStorage)? = nil, limits: [String: Int] = [:], undoAttempts: Int = 3
    ) -> TaskEngine {
        TaskEngine(
            storage: storage ?? self.storage, owner: owner, limits: limits, undoAttempts: undoAttempts, now: clock.wall,
            clock: clock, generator: SeededGenerator(seed: 7))
    }

    func row(kind: String = "build", instance: String? = nil) throws -> TaskRow {
        try TaskEngine.makeRow(
            kind: kind, instance: instance.map { InstanceID($0) }, requestID: RequestID("req-1"), generation: 2,
            state: Notes(), now: clock.wall())
    }

    func find(_ row: TaskRow) async throws -> TaskRow {
        guard let found = try await storage.find(row.id) else { throw TaskError.notFound(row.id) }
        return found
    }
}

/// Runs `engine` while `body` does.
func running<T>(_ engine: TaskEngine, _ body: () async throws -> T) async throws -> T {
    let service = Task { try await engine.run() }
    do {
        let value = try await body()
        service.cancel()
        try await service.value
        return value
    } catch {
        service.cancel()
        try await service.value
        throw error
    }
}

/// SplitMix64.
struct SeededGenerator: RandomNumberGenerator, Sendable {
    private var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
