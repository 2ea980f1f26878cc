import Model
import SQL
import Synchronization
import Tasks
import Testing

@testable import Database

@Suite("Checking, purging and copying a database")
struct UpkeepTests {
    /// A database with a user, a host, a server that runs, one that was deleted, an image's worth of everything.
    private func filled(_ engine: Engine) async throws -> ControlDatabase {
        let database = try await makeDatabase(engine)
        _ = try await database.instances.create(
            [fullInstance("runs"), plainInstance("gone", at: 2)],
            actions: [makeAction("runs"), makeAction("gone", request: "req-2")], tasks: [])
        _ = try await database.instances.update(
            InstanceID("gone"), now: at(10),
            finishing: ActionEnd(
                requestID: RequestID("req-2"), at: at(10), failed: false,
                event: InstanceEvent(
                    name: "e", host: HostName("a"), startedAt: at(3), finishedAt: at(4), result: "Success", details: nil
                ))
        ) {
            ($0.vmState, $0.taskState, $0.deletedAt) = (.deleted, nil, at(10))
        }
        try await database.database.write { connection in
            try connection.execute(
                "UPDATE instance_actions SET finished_at = 5 WHERE instance_id = 'runs'")
            try connection.execute("INSERT INTO enrolled_hosts (name, enrolled_at) VALUES ('a', 1)")
            try connection.execute("INSERT INTO settings (name, value) VALUES ('secret', ?)", [.blob([0, 1, 255])])
        }
        return database
    }

    @Test("A sound database has no findings", arguments: Engine.allCases)
    func sound(_ engine: Engine) async throws {
        let database = try await filled(engine)
        #expect(try await database.check() == [])
        await database.close()
    }

    @Test(
        "What contradicts is found, with the record that it is about", arguments: Engine.allCases,
        [
            ("instance-without-host", "UPDATE instances SET host = NULL WHERE id = 'runs'", "runs"),
            ("stuck-instance", "UPDATE instances SET task_state = 'rebooting' WHERE id = 'runs'", "runs"),
            (
                "building-instance-without-task", "UPDATE instances SET vm_state = 'building' WHERE id = 'runs'",
                "runs"
            ),
            ("instance-on-unknown-host", "DELETE FROM enrolled_hosts", "runs"),
            ("action-without-instance", "DELETE FROM instances WHERE id = 'runs'", "runs"),
            ("event-without-action", "DELETE FROM instance_actions WHERE instance_id = 'gone'", "gone"),
            ("unended-action", "UPDATE instance_actions SET finished_at = NULL WHERE instance_id = 'runs'", "runs"),
            (
                "member-of-no-group",
                "INSERT INTO server_group_members (instance_id, group_id, position) VALUES ('runs', 'g', 1)", "runs"
            ),
            ("access-without-flavor", "INSERT INTO flavor_access (flavor_id, project_id) VALUES ('f', 'p')", "f"),
            (
                "host-of-no-aggregate",
                "INSERT INTO aggregate_hosts (aggregate_id, host, position) VALUES (7, 'a', 1)", "a"
            ),
            (
                "assignment-without-user",
                """
                INSERT INTO identity_assignments (user_id, scope_kind, scope_target, role_id)
                VALUES ('nobody', 'project', 'p', 'r')
                """, "nobody"
            ),
            ("counter-behind", "UPDATE counters SET value = 0 WHERE name = 'instance_number'", "instance_number"),
            ("unreadable-record", "UPDATE instances SET record = '{}' WHERE id = 'runs'", "runs"),
        ])
    func broken(_ engine: Engine, _ sample: (rule: String, sql: String, subject: String)) async throws {
        let database = try await filled(engine)
        try await database.database.write { try $0.executeScript(sample.sql) }
        let found = try await database.check()
        #expect(found.contains { $0.rule == sample.rule && $0.subject == sample.subject }, "\(found)")
        #expect(found.allSatisfy { !$0.message.isEmpty })
        await database.close()
    }

    @Test(
        "Claims without a server, and a server without a claim, are found on a host that is up and at rest",
        arguments: Engine.allCases, [(0, "instance-without-claim"), (1, nil), (2, "claims-without-instance")])
    func claims(_ engine: Engine, _ sample: (promised: Int, rule: String?)) async throws {
        let database = try await filled(engine)
        var report = makeReport("a")
        report.reserved.vcpus = 1
        report.used.vcpus = sample.promised + 1
        _ = try await database.hosts.record(report, now: at(20))
        #expect(try await database.check() == [], "nothing is known of a host that is down")
        try await database.services.record([
            ServiceHeartbeat(host: HostName("a"), binary: "nova-compute", version: 1, at: database.now())
        ])
        #expect(try await database.check().map(\.rule) == [sample.rule].compactMap(\.self))
        try await database.tasks.insert([makeTask("t", instance: "runs")])
        _ = try await database.instances.update(InstanceID("runs"), now: at(30)) { $0.taskState = .rebooting }
        #expect(try await database.check() == [], "something is under way")
        _ = try await database.instances.update(InstanceID("runs"), now: database.now()) { $0.taskState = nil }
        #expect(try await database.check() == [], "it was a moment ago")
        await database.close()
    }

    @Test(
        "A task under way about a server that is not there is found; one that cleans up a host is not about one",
        arguments: Engine.allCases)
    func tasks(_ engine: Engine) async throws {
        let database = try await filled(engine)
        try await database.tasks.insert([makeTask("t", instance: "nothing")])
        #expect(try await database.check().map(\.rule) == ["task-without-instance"])
        await database.close()
    }

    @Test(
        "Servers that were deleted long ago are forgotten, after their rows have been written down",
        arguments: Engine.allCases)
    func purge(_ engine: Engine) async throws {
        let database = try await filled(engine)
        #expect(try await database.purge(deletedBefore: at(10)) == PurgeCount())
        let lines = Mutex<[String]>([])
        let count = try await database.purge(deletedBefore: at(11)) { more in lines.withLock { $0 += more } }
        #expect((count.instances, count.actions, count.events) == (1, 1, 1))
        let tables = try lines.withLock { try $0.map { try JSON(parsing: Array($0.utf8))[0]?.text } }
        #expect(tables == ["instances", "instance_actions", "instance_events"])
        #expect(try await database.instances.find(InstanceID("gone"), includeDeleted: true) == nil)
        #expect(try await database.instances.find(InstanceID("runs")) != nil)
        #expect(try await database.check() == [])
        await database.close()
    }

    @Test(
        "What cannot be written down is not forgotten, and neither is what a task is still about",
        arguments: Engine.allCases)
    func purgeFails(_ engine: Engine) async throws {
        let database = try await filled(engine)
        struct Full: Error {}
        await #expect(throws: Full.self) { try await database.purge(deletedBefore: at(11)) { _ in throw Full() } }
        try await database.tasks.insert([makeTask("t", instance: "gone")])
        #expect(try await database.purge(deletedBefore: at(11)) == PurgeCount())
        #expect(try await database.instances.find(InstanceID("gone"), includeDeleted: true) != nil)
        await database.close()
    }

    private func copy(_ database: ControlDatabase) async throws -> (lines: [String], sums: [TableSum]) {
        let lines = Mutex<[String]>([])
        let sums = try await database.export { line in lines.withLock { $0.append(line) } }
        return (lines.withLock { $0 }, sums)
    }

    private func fill(_ database: ControlDatabase, from lines: [String]) async throws -> [TableSum] {
        let rest = Mutex(lines[...])
        return try await database.importCopy { rest.withLock { $0.popFirst() } }
    }

    @Test(
        "A copy brings everything into a new database of either engine, row by row, and the sums agree",
        arguments: Engine.allCases, Engine.allCases)
    func copies(_ engine: Engine, _ other: Engine) async throws {
        let (source, target) = (try await filled(engine), try await makeDatabase(other))
        let (lines, sums) = try await copy(source)
        #expect(Set(sums.map(\.table)).isSuperset(of: ["instances", "settings", "tasks", "flavors", "identity_users"]))
        #expect(sums.first { $0.table == "instances" }?.rows == 2)
        #expect(try await fill(target, from: lines) == sums)
        let again = try await copy(target)
        #expect(again.lines == lines && again.sums == sums)
        #expect(try await target.instances.find(InstanceID("runs")) == source.instances.find(InstanceID("runs")))
        for database in [source, target] { await database.close() }
    }

    @Test(
        "A copy that was changed, cut off, is of another release or of nothing is refused, and changes nothing",
        arguments: Engine.allCases)
    func badCopies(_ engine: Engine) async throws {
        let source = try await filled(engine)
        let (lines, _) = try await copy(source)
        func refused(_ lines: [String], _ kind: FailureKind, _ what: String) async throws {
            let target = try await makeDatabase(engine)
            let before = try await copy(target)
            do {
                _ = try await fill(target, from: lines)
                Issue.record("\(what) was taken")
            } catch let failure as Failure {
                #expect(failure.kind == kind, "\(what): \(failure)")
            }
            #expect(try await copy(target) == before, "\(what)")
            await target.close()
        }
        let row = try #require(lines.firstIndex { $0.hasPrefix(#"["instances""#) })
        var changed = lines
        changed[row] = changed[row].replacing("m1.small", with: "m1.large")
        try await refused(changed, .invalidParameters, "a changed row")
        try await refused(Array(lines[..<row] + lines[(row + 1)...]), .invalidParameters, "a row too few")
        try await refused(Array(lines.dropLast()), .invalidParameters, "a copy without end")
        try await refused(Array(lines.dropFirst()), .invalidParameters, "a copy without header")
        try await refused(
            [lines[0].replacing(#""control":"#, with: #""control":9"#)] + lines.dropFirst(), .conflict,
            "a copy of another release")
        try await refused([], .invalidParameters, "nothing")
        try await refused([lines[0], "{", lines[1]], .invalidParameters, "a line of noise")
        try await refused(
            [lines[0], #"["instances",[1]]"#], .invalidParameters, "a row that is too short")
        try await refused(
            [lines[0], #"["sqlite_master",[1]]"#], .invalidParameters, "a row of no table of ours")
        await source.close()
    }

    @Test("A database in use is not overwritten", arguments: Engine.allCases)
    func inUse(_ engine: Engine) async throws {
        let (source, target) = (try await filled(engine), try await filled(engine))
        let (lines, _) = try await copy(source)
        do {
            _ = try await fill(target, from: lines)
            Issue.record("it was overwritten")
        } catch let failure as Failure {
            #expect(failure.kind == .conflict && failure.message.contains("in use"))
        }
        for database in [source, target] { await database.close() }
    }

    @Test("Every kind of value comes back from a line")
    func rows() throws {
        let row = TableRow(
            table: "t", values: [.null, .integer(.min), .real(1.5), .text("ü\n\""), .blob([0, 255]), .blob([])])
        #expect(try TableRow(parsing: JSON(parsing: Array(row.line.utf8))) == row)
        for bad in ["{}", "[]", #"["t",5]"#, #"["t",[true]]"#, #"["t",[{"blob":"?"}]]"#, #"["t",[{"x":"AA=="}]]"#] {
            #expect(throws: Failure.self) { try TableRow(parsing: JSON(parsing: Array(bad.utf8))) }
        }
    }

    @Test("The schemas of a file are told without changing it")
    func versions() async throws {
        let folder = try TemporaryFolder()
        let path = folder.file("apus.db")
        let empty = try await ControlDatabase.schemas(.file(path))
        #expect(empty.count == ControlDatabase.schemas.count && empty.allSatisfy { $0.found == 0 && $0.known != nil })
        let database = try await ControlDatabase.open(path: path, now: { at(0) })
        try await database.database.write {
            try $0.execute("INSERT INTO schema_versions (component, version) VALUES ('later', 3)")
        }
        await database.close()
        let states = try await ControlDatabase.schemas(.file(path))
        #expect(states.first { $0.component == "later" } == SchemaState(component: "later", found: 3, known: nil))
        #expect(states.filter { $0.component != "later" }.allSatisfy { $0.found == $0.known })
    }
}
