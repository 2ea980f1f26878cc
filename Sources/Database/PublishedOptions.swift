internal import Model

/// The options that the scheduler decides by, as it told them when it started: for those who explain decisions elsewhere.
public struct PublishedOptions: Sendable {
    private static let name = "scheduler.options"
    private let settings: SettingsStore

    public init(settings: SettingsStore) { self.settings = settings }

    /// - Parameter options: each value by `section.option`, as a file has it.
    public func publish(_ options: [String: String]) async throws {
        try await settings.replace(
            Self.name, with: JSON.object(options.mapValues { .string($0) }).serialized())
    }

    /// Those of the scheduler that started last; empty where none has told any.
    public func read() async throws -> [String: String] {
        guard let bytes = try await settings.value(Self.name) else { return [:] }
        let members: [String: JSON]?
        do { members = try JSON(parsing: bytes).members } catch { members = nil }
        let texts = members?.compactMapValues(\.text)
        guard let texts, texts.count == members?.count else {
            throw Failure(.internalError, "the scheduler's options in the database cannot be read")
        }
        return texts
    }
}
