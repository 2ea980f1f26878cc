import Foundation
import SQL
import SQLite

/// A folder of its own for one test, removed with it.
final class TemporaryFolder: Sendable {
    let path: String

    init() throws {
        path = NSTemporaryDirectory() + "apus-sqlite-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func file(_ name: String) -> String { path + "/" + name }
}

extension SQLError {
    /// The code of the `SQLError` that `body` throws; `nil` when it throws none, or another error.
    static func code(_ body: () async throws -> Void) async -> SQLError.Code? {
        do {
            try await body()
            return nil
        } catch {
            return (error as? SQLError)?.code
        }
    }
}

extension DispatchSemaphore {
    /// Waits without holding a thread of the cooperative pool.
    func signalled() async {
        await withCheckedContinuation { continuation in
            DispatchQueue.global().async {
                self.wait()
                continuation.resume()
            }
        }
    }
}
