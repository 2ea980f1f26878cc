import Database
import Model
import Testing

@Suite("Lists of instances")
struct InstanceListTests {
    /// a…f, created at 1…6; b and e are of project q, c is deleted, d is on host h, f is in error.
    private func makeFilled(_ engine: Engine = .sqlite) async throws -> ControlDatabase {
        let database = try await makeDatabase(engine)
        let instances = ["a", "b", "c", "d", "e", "f"].enumerated().map { index, id in
            plainInstance(id, project: id == "b" || id == "e" ? "q" : "p", at: Int64(index + 1))
        }
        _ = try await database.instances.create(instances, actions: [], tasks: [])
        for (id, second, change) in [
            (
                "c", 20,
                { @Sendable (instance: inout Instance) in
                    instance.vmState = .deleted
                    instance.deletedAt = at(20)
                }
            ),
            ("d", 21, { @Sendable (instance: inout Instance) in instance.host = HostName("h") }),
            ("f", 22, { @Sendable (instance: inout Instance) in instance.vmState = .error }),
        ] as [(String, Int64, @Sendable (inout Instance) -> Void)] {
            _ = try await database.instances.update(InstanceID(id), now: at(second), change: change)
        }
        return database
    }

    private func ids(_ database: ControlDatabase, _ change: (inout InstanceQuery) -> Void) async throws -> String {
        var query = InstanceQuery()
        change(&query)
        return try await database.instances.list(query).map(\.id.rawValue).joined()
    }

    @Test("Newest first, without what is deleted", arguments: Engine.allCases)
    func order(engine: Engine) async throws {
        let database = try await makeFilled(engine)
        #expect(try await ids(database) { _ in } == "fedba")
    }

    @Test(
        "Each filter holds by itself",
        arguments: [
            ("fda", { @Sendable in $0.projectID = ProjectID("p") }), ("", { @Sendable in $0.userID = UserID("x") }),
            ("d", { @Sendable in $0.host = HostName("h") }), ("", { @Sendable in $0.imageID = ImageID("x") }),
            ("fedba", { @Sendable in $0.flavorID = FlavorID("2") }), ("b", { @Sendable in $0.reservationID = "r-b" }),
            ("f", { @Sendable in $0.vmStates = [.error, .active] }), ("c", { @Sendable in $0.deleted = .only }),
            ("fedcba", { @Sendable in $0.deleted = .included }), ("fd", { @Sendable in $0.changedSince = at(21) }),
            ("eba", { @Sendable in $0.changedBefore = at(20) }),
            ("ba", { @Sendable in $0.matches = { $0.id < InstanceID("d") } }),
        ] as [(String, @Sendable (inout InstanceQuery) -> Void)])
    func filter(expected: String, change: @Sendable (inout InstanceQuery) -> Void) async throws {
        let database = try await makeFilled()
        #expect(try await ids(database, change) == expected)
    }

    @Test("Filters hold together", arguments: Engine.allCases)
    func filters(engine: Engine) async throws {
        let database = try await makeFilled(engine)
        let found = try await ids(database) { query in
            query.projectID = ProjectID("p")
            query.vmStates = [.building]
            query.deleted = .included
        }
        #expect(found == "da")
    }

    @Test(
        "Pages by marker give every instance once, in every order",
        arguments: InstanceQuery.SortKey.allCases, [true, false])
    func pages(key: InstanceQuery.SortKey, ascending: Bool) async throws {
        let database = try await makeFilled()
        let whole = try await ids(database) { $0.sort = [(key, ascending)] }
        var found = ""
        var marker: InstanceID?
        repeat {
            let page = try await ids(database) { query in
                query.sort = [(key, ascending)]
                (query.limit, query.marker) = (2, marker)
            }
            found += page
            marker = page.last.map { InstanceID(String($0)) }
        } while marker != nil
        #expect(found == whole && whole.count == 5)
    }

    @Test("A limit counts what matches, not what was read", arguments: Engine.allCases)
    func limitOfMatches(engine: Engine) async throws {
        let database = try await makeFilled(engine)
        let found = try await ids(database) { query in
            query.limit = 1
            query.matches = { $0.id == InstanceID("a") }
        }
        #expect(found == "a")
        #expect(try await ids(database) { $0.limit = 0 } == "")
        #expect(try await ids(database) { $0.limit = -5 } == "")
    }

    @Test("A marker that was deleted meanwhile keeps its place; an unknown one is named", arguments: Engine.allCases)
    func markers(engine: Engine) async throws {
        let database = try await makeFilled(engine)
        #expect(try await ids(database) { $0.marker = InstanceID("c") } == "ba")
        await #expect(throws: StoreError.notFound("marker x")) {
            _ = try await ids(database) { $0.marker = InstanceID("x") }
        }
    }

    @Test("Values are bound, never written into the statement", arguments: Engine.allCases)
    func injection(engine: Engine) async throws {
        let database = try await makeFilled(engine)
        let hostile = "p' OR '1'='1"
        #expect(try await ids(database) { $0.projectID = ProjectID(hostile) } == "")
        #expect(try await ids(database) { $0.reservationID = hostile } == "")
        await #expect(throws: StoreError.notFound("marker \(hostile)")) {
            _ = try await ids(database) { $0.marker = InstanceID(hostile) }
        }
    }

    @Test("A host's live instances, oldest first", arguments: Engine.allCases)
    func onHost(engine: Engine) async throws {
        let database = try await makeFilled(engine)
        _ = try await database.instances.update(InstanceID("a"), now: at(30)) { $0.host = HostName("h") }
        #expect(try await database.instances.list(on: HostName("h")).map(\.id.rawValue) == ["a", "d"])
        #expect(try await database.instances.list(on: HostName("x")).isEmpty)
    }
}
