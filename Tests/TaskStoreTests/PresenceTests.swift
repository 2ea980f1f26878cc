import Foundation
import SQL
import Testing

@Suite("Which names live")
struct PresenceTests {
    @Test("A name lives as long as who has announced it; another cannot have it meanwhile", arguments: Engine.allCases)
    func life(kind: Engine) async throws {
        let folder = NSTemporaryDirectory() + "apus-presence-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let location = try await kind.makeLocation(file: folder + "/db")
        let (one, two) = (try await location.open(), try await location.open())
        #expect(try await !two.isAnnounced("conductor@a"))
        try await until("the name is taken") { try await one.announce("conductor@a") }
        #expect(try await one.announce("conductor@a"), "again, it is still its own")
        for database in [one, two] { #expect(try await database.isAnnounced("conductor@a")) }
        #expect(try await !two.isAnnounced("conductor@b"))
        for _ in 0..<3 { #expect(try await !two.announce("conductor@a")) }
        await one.close()
        await #expect(throws: SQLError.self, "who has closed does not live again") {
            try await one.announce("conductor@a")
        }
        try await until("the name is given up") { try await two.announce("conductor@a") }
        #expect(try await two.isAnnounced("conductor@a"))
        await two.close()
    }

    private func until(_ what: String, _ condition: () async throws -> Bool) async throws {
        for _ in 0..<500 {
            if try await condition() { return }
            try await Task.sleep(for: .milliseconds(20))
        }
        Issue.record("\(what): not in ten seconds")
    }
}
