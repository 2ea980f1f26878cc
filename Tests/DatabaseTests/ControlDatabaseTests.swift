import Database
import Foundation
import Model
import SQL
import SQLite
import Testing

@Suite("The database file")
struct ControlDatabaseTests {
    private let folder: TemporaryFolder

    init() throws { folder = try TemporaryFolder() }

    @Test("What one process wrote another one reads, and sees that something changed")
    func twoProcesses() async throws {
        let first = try await ControlDatabase.open(path: folder.file("db"))
        let second = try await ControlDatabase.open(path: folder.file("db"))
        let before = try await second.dataVersion()
        _ = try await first.instances.create([fullInstance()], actions: [], tasks: [])
        #expect(try await second.dataVersion() != before)
        #expect(try await second.instances.find(InstanceID("i"))?.number == 1)
        let made = try await second.instances.create([fullInstance("j")], actions: [], tasks: [])
        #expect(made.map(\.number) == [2])
        #expect(try await first.instances.list(InstanceQuery()).count == 2)
    }

    @Test("Two processes that write at once lose nothing")
    func concurrentProcesses() async throws {
        let databases = [
            try await ControlDatabase.open(path: folder.file("db")),
            try await ControlDatabase.open(path: folder.file("db")),
        ]
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<60 {
                group.addTask {
                    _ = try await databases[number % 2].instances.create(
                        [plainInstance("i\(number)")], actions: [], tasks: [])
                }
            }
            try await group.waitForAll()
        }
        let numbers = try await databases[0].instances.list(InstanceQuery()).map(\.number)
        #expect(numbers.sorted() == Array(1...60))
    }

    @Test("Processes that start at once on a new file all open it, and make its schema once")
    func concurrentStart() async throws {
        let path = folder.file("db")
        let opened = try await withThrowingTaskGroup(of: ControlDatabase.self) { group in
            for _ in 0..<8 { group.addTask { try await ControlDatabase.open(path: path) } }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(opened.count == 8)
        #expect(try await opened[0].flavors.list().count == 6)
    }

    @Test("The file is its owner's only")
    func mode() async throws {
        let database = try await ControlDatabase.open(path: folder.file("db"))
        let attributes = try FileManager.default.attributesOfItem(atPath: folder.file("db"))
        #expect(attributes[.posixPermissions] as? Int == 0o600)
        await database.close()
    }

    @Test("A schema newer than the program is refused, with both versions")
    func newerSchema() async throws {
        await (try await ControlDatabase.open(path: folder.file("db"))).close()
        let raw = try await SQLiteDatabase.open(.file(folder.file("db")))
        try await raw.write { try $0.execute("UPDATE schema_versions SET version = 99 WHERE component = 'control'") }
        await raw.close()
        do {
            _ = try await ControlDatabase.open(path: folder.file("db"))
            Issue.record("a newer schema was opened")
        } catch let error as SQLError {
            guard case .newerSchema("control", found: 99, known: let known) = error.code else {
                Issue.record("\(error)")
                return
            }
            #expect(error.message.contains("99") && error.message.contains("\(known)"))
        }
    }

    @Test("A file that is no database is refused")
    func garbage() async throws {
        try Data("not a database, but long enough to look like one".utf8)
            .write(to: URL(fileURLWithPath: folder.file("db")))
        await #expect(throws: SQLError.self) { _ = try await ControlDatabase.open(path: folder.file("db")) }
    }
}
