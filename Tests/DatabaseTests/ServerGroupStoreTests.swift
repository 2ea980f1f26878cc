import Model
import Testing

@testable import Database

@Suite("Server groups in the database")
struct ServerGroupStoreTests {
    private func group(
        _ id: String, project: String = "p", user: String = "u", _ policy: ServerGroup.Policy = .antiAffinity,
        most: Int? = nil, at second: Int64 = 1
    ) -> ServerGroup {
        ServerGroup(
            id: ServerGroupID(id), projectID: ProjectID(project), userID: UserID(user), name: "group \(id)",
            policy: policy, maxServersPerHost: most, createdAt: at(second))
    }

    private func add(_ ids: [String], to group: String, limit: Int = -1, _ database: ControlDatabase) async throws {
        _ = try await database.instances.create(
            ids.map { plainInstance($0) }, actions: [], tasks: [], group: (ServerGroupID(group), limit))
    }

    private func place(_ id: String, on host: String, _ database: ControlDatabase) async throws {
        _ = try await database.instances.update(InstanceID(id), now: at(2), placing: HostName(host)) {
            $0.host = HostName(host)
        }
    }

    @Test("A group comes back whole, with its members in the order in which they came", arguments: Engine.allCases)
    func roundTrip(engine: Engine) async throws {
        let database = try await makeDatabase(engine)
        let store = database.serverGroups
        var made = ServerGroup.Policy.allCases.enumerated().map { number, policy in
            group("g\(number)", policy, most: policy == .antiAffinity ? 3 : nil, at: Int64(number))
        }
        for one in made.reversed() { try await store.create(one, projectLimit: -1, userLimit: -1) }
        try await add(["c", "a"], to: "g1", database)
        try await add(["b"], to: "g1", database)
        made[1].members = [InstanceID("c"), InstanceID("a"), InstanceID("b")]
        for one in made { #expect(try await store.find(one.id) == one) }
        #expect(try await store.list(of: ProjectID("p")) == made)
        #expect(try await store.list(of: nil) == made)
        #expect(try await store.list(of: ProjectID("q")).isEmpty)
        #expect(try await store.find(ServerGroupID("x")) == nil)
        #expect(
            try await store.groups(of: [InstanceID("a"), InstanceID("none")])
                == [InstanceID("a"): ServerGroupID("g1")])
        await database.close()
    }

    @Test("Where the members are is told; one that is deleted is none any more", arguments: Engine.allCases)
    func placed(engine: Engine) async throws {
        let database = try await makeDatabase(engine)
        try await database.serverGroups.create(group("g"), projectLimit: -1, userLimit: -1)
        try await add(["a", "b", "c"], to: "g", database)
        try await place("a", on: "h1", database)
        _ = try await database.instances.update(InstanceID("b"), now: at(3)) { instance in
            (instance.vmState, instance.deletedAt) = (.deleted, at(3))
        }
        let placed = try #require(try await database.serverGroups.placed(of: InstanceID("c")))
        #expect(placed.group.members == [InstanceID("a"), InstanceID("c")])
        #expect(placed.hosts == [InstanceID("a"): HostName("h1")] && placed.unplaced == [InstanceID("c")])
        #expect(try await database.serverGroups.placed(of: InstanceID("x")) == nil)
        await database.close()
    }

    @Test(
        "Of many that are made at once no more get in than a project, and a user in it, may have",
        arguments: Engine.allCases)
    func limits(engine: Engine) async throws {
        let database = try await makeDatabase(engine)
        let store = database.serverGroups
        func make(_ count: Int, project: String, projectLimit: Int, userLimit: Int) async -> Int {
            await withTaskGroup(of: Bool.self) { tasks in
                for number in 0..<count {
                    let one = group("\(project)-\(number)", project: project)
                    tasks.addTask {
                        do {
                            try await store.create(one, projectLimit: projectLimit, userLimit: userLimit)
                            return true
                        } catch {
                            let limit = min(projectLimit, userLimit)
                            let wanted = ServerGroupLimitReached(resource: .serverGroups, used: limit, limit: limit)
                            #expect(error as? ServerGroupLimitReached == wanted, "\(error)")
                            return false
                        }
                    }
                }
                return await tasks.reduce(0) { $0 + ($1 ? 1 : 0) }
            }
        }
        #expect(await make(10, project: "p", projectLimit: 3, userLimit: 100) == 3)
        #expect(await make(10, project: "q", projectLimit: 100, userLimit: 4) == 4)
        #expect(try await store.list(of: nil).count == 7)
        await database.close()
    }

    @Test("A group has no more members than it may; those that do not get in are not made", arguments: Engine.allCases)
    func members(engine: Engine) async throws {
        let database = try await makeDatabase(engine)
        try await database.serverGroups.create(group("g"), projectLimit: -1, userLimit: -1)
        try await add(["a", "b"], to: "g", limit: 3, database)
        await #expect(throws: ServerGroupLimitReached(resource: .serverGroupMembers, used: 2, limit: 3)) {
            try await add(["c", "d"], to: "g", limit: 3, database)
        }
        #expect(try await database.instances.find(InstanceID("c")) == nil)
        try await add(["e"], to: "g", limit: 3, database)
        await #expect(throws: StoreError.notFound("Instance group x")) { try await add(["f"], to: "x", database) }
        #expect(try await database.instances.find(InstanceID("f")) == nil)
        await database.close()
    }

    @Test("Of many that come to one host at once a policy lets in as many as it may", arguments: Engine.allCases)
    func policies(engine: Engine) async throws {
        let database = try await makeDatabase(engine)
        let store = database.serverGroups
        func came(_ ids: [String], _ host: (Int) -> String) async -> [String] {
            await withTaskGroup(of: String?.self) { tasks in
                for (number, id) in ids.enumerated() {
                    let host = host(number)
                    tasks.addTask {
                        do {
                            try await place(id, on: host, database)
                            return host
                        } catch StoreError.groupPolicy(let refused, _) {
                            #expect(refused == HostName(host))
                            return nil
                        } catch {
                            Issue.record("\(error)")
                            return nil
                        }
                    }
                }
                return await tasks.reduce(into: []) { if let host = $1 { $0.append(host) } }
            }
        }
        try await store.create(group("apart", .antiAffinity, most: 2), projectLimit: -1, userLimit: -1)
        let apart = (0..<6).map { "apart-\($0)" }
        try await add(apart, to: "apart", database)
        #expect(await came(apart) { _ in "h1" } == ["h1", "h1"])
        try await store.create(group("together", .affinity), projectLimit: -1, userLimit: -1)
        let together = (0..<6).map { "together-\($0)" }
        try await add(together, to: "together", database)
        // Whichever host the first one comes to, the others that come are there as well.
        let hosts = await came(together) { "h\($0 % 2)" }
        #expect(hosts.count == 3 && Set(hosts).count == 1)
        await database.close()
    }

    @Test("A group that is deleted leaves its servers; one that there is not is named", arguments: Engine.allCases)
    func deletion(engine: Engine) async throws {
        let database = try await makeDatabase(engine)
        let store = database.serverGroups
        try await store.create(group("g"), projectLimit: -1, userLimit: -1)
        try await add(["a"], to: "g", database)
        try await store.delete(ServerGroupID("g"))
        #expect(try await store.find(ServerGroupID("g")) == nil)
        #expect(try await store.groups(of: [InstanceID("a")]).isEmpty)
        #expect(try await database.instances.find(InstanceID("a")) != nil)
        await #expect(throws: StoreError.notFound("Instance group g")) { try await store.delete(ServerGroupID("g")) }
        await database.close()
    }
}
