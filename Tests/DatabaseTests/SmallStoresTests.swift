import Database
import Model
import RPC
import Tasks
import Testing

@Suite("Flavors")
struct FlavorStoreTests {
    @Test("A new database offers the six defaults, smallest first", arguments: Engine.allCases)
    func defaults(engine: Engine) async throws {
        let flavors = try await makeDatabase(engine).flavors
        let names = try await flavors.list().map { "\($0.id) \($0.name) \($0.vcpus) \($0.memoryMiB) \($0.rootGiB)" }
        #expect(
            names == [
                "42 m1.nano 1 64 1", "84 m1.micro 1 128 1", "1 m1.tiny 1 512 1", "2 m1.small 1 2048 20",
                "3 m1.medium 2 4096 40", "4 m1.large 4 8192 80",
            ])
    }

    @Test("A default that was deleted stays deleted after the next start")
    func seedOnce() async throws {
        let folder = try TemporaryFolder()
        let first = try await ControlDatabase.open(path: folder.file("db"))
        try await first.flavors.delete(FlavorID("4"))
        await first.close()
        let second = try await ControlDatabase.open(path: folder.file("db"))
        #expect(try await second.flavors.find(FlavorID("4")) == nil)
        #expect(try await second.flavors.list().count == 5)
    }

    @Test("Id and name are unique, each by itself", arguments: Engine.allCases)
    func duplicates(engine: Engine) async throws {
        let flavors = try await makeDatabase(engine).flavors
        let made = Flavor(id: FlavorID("x"), name: "big", vcpus: 1, memoryMiB: 1, rootGiB: 0, extraSpecs: ["a:b": "c"])
        try await flavors.create(made, now: at(1))
        #expect(try await flavors.find(FlavorID("x")) == made)
        var other = made
        other.name = "other"
        await #expect(throws: StoreError.exists("Flavor with ID x")) { try await flavors.create(other, now: at(1)) }
        other.id = FlavorID("y")
        other.name = "big"
        await #expect(throws: StoreError.exists("Flavor with name big")) { try await flavors.create(other, now: at(1)) }
    }

    @Test("Extra specs change; an unknown flavor is named", arguments: Engine.allCases)
    func change(engine: Engine) async throws {
        let flavors = try await makeDatabase(engine).flavors
        let changed = try await flavors.update(FlavorID("1")) { $0.extraSpecs["hw:cpu_policy"] = "shared" }
        #expect(try await flavors.find(FlavorID("1")) == changed)
        await #expect(throws: StoreError.notFound("Flavor x")) { try await flavors.delete(FlavorID("x")) }
        await #expect(throws: StoreError.notFound("Flavor x")) { _ = try await flavors.update(FlavorID("x")) { _ in } }
    }
}

@Suite("Key pairs")
struct KeyPairStoreTests {
    private func pair(_ name: String, user: String = "u") -> KeyPair {
        KeyPair(name: name, userID: UserID(user), publicKey: "ssh-rsa A", fingerprint: "aa:bb", createdAt: at(1))
    }

    @Test("A name is one user's own", arguments: Engine.allCases)
    func names(engine: Engine) async throws {
        let pairs = try await makeDatabase(engine).keyPairs
        for user in ["u", "v"] { try await pairs.create(pair("k", user: user), limit: 10) }
        try await pairs.create(pair("a"), limit: 10)
        await #expect(throws: StoreError.exists("Key pair 'k'")) { try await pairs.create(pair("k"), limit: 10) }
        #expect(try await pairs.list(of: UserID("u")).map(\.name) == ["a", "k"])
        #expect(try await pairs.find("k", of: UserID("v")) == pair("k", user: "v"))
        try await pairs.delete("k", of: UserID("u"))
        #expect(try await pairs.find("k", of: UserID("u")) == nil)
        #expect(try await pairs.find("k", of: UserID("v")) != nil)
        await #expect(throws: StoreError.notFound("Keypair k")) { try await pairs.delete("k", of: UserID("u")) }
    }

    @Test("The quota counts one user's pairs; -1 means no limit", arguments: Engine.allCases)
    func quota(engine: Engine) async throws {
        let pairs = try await makeDatabase(engine).keyPairs
        try await pairs.create(pair("a"), limit: 1)
        await #expect(throws: KeyPairLimitReached.self) { try await pairs.create(pair("b"), limit: 1) }
        try await pairs.create(pair("b", user: "v"), limit: 1)
        try await pairs.create(pair("b"), limit: -1)
    }
}

@Suite("Settings")
struct SettingsStoreTests {
    @Test("Of two that establish the same names, both use the first one's values", arguments: Engine.allCases)
    func establish(engine: Engine) async throws {
        let settings = try await makeDatabase(engine).settings
        #expect(try await settings.value("a") == nil)
        let mine = ["a": [1] as [UInt8], "b": [2]]
        #expect(try await settings.establish(mine) == mine)
        #expect(try await settings.establish(["a": [3], "b": [4]]) == mine)
        #expect(try await settings.value("b") == [2])
    }

    @Test("Half a set is a contradiction", arguments: Engine.allCases)
    func half(engine: Engine) async throws {
        let settings = try await makeDatabase(engine).settings
        _ = try await settings.establish(["a": [1]])
        await #expect(throws: StoreError.self) { _ = try await settings.establish(["a": [1], "b": [2]]) }
        #expect(try await settings.value("b") == nil)
    }
}

@Suite("Operation reports")
struct OperationReportStoreTests {
    private func report(_ task: String, host: String, power: PowerState) -> ReportOperation.Params {
        ReportOperation.Params(
            header: CommandHeader(
                task: TaskID(task), instance: InstanceID("i"), fence: Fence(generation: 1, epoch: 0)),
            host: HostName(host), failure: nil, powerState: power, interfaces: nil, launchedAt: nil,
            steps: [ReportOperation.StepTiming(name: "claim", milliseconds: 0.5)], endedAt: at(3))
    }

    @Test("The first report of a task from a host stays, until it is trimmed", arguments: Engine.allCases)
    func first(engine: Engine) async throws {
        let reports = try await makeDatabase(engine).reports
        try await reports.record(report("t", host: "a", power: .running), now: at(3))
        try await reports.record(report("t", host: "a", power: .crashed), now: at(4))
        try await reports.record(report("t", host: "b", power: .shutdown), now: at(5))
        let found = try await reports.find(task: TaskID("t"), host: HostName("a"))
        #expect(found == report("t", host: "a", power: .running))
        #expect(try await reports.find(task: TaskID("t"), host: HostName("c")) == nil)
        #expect(try await reports.trim(before: at(5)) == 1)
        #expect(try await reports.find(task: TaskID("t"), host: HostName("b"))?.powerState == .shutdown)
    }

    @Test("A report is kept, however old, until the task that waits for it has ended", arguments: Engine.allCases)
    func unfinished(engine: Engine) async throws {
        let database = try await makeDatabase(engine)
        var row = TaskRow(
            id: TaskID("t"), kind: "k", requestID: RequestID("r"), state: Array("{}".utf8), generation: 1,
            createdAt: at(1))
        try await database.tasks.insert(row)
        try await database.reports.record(report("t", host: "a", power: .running), now: at(3))
        #expect(try await database.reports.trim(before: at(500)) == 0)
        row = try #require(
            try await database.tasks.lease(id: row.id, owner: "o", until: at(600), now: at(500)))
        (row.status, row.finishedAt, row.leaseUntil) = (.succeeded, at(501), nil)
        try await database.tasks.save(row)
        #expect(try await database.reports.trim(before: at(500)) == 1)
    }
}

@Suite("Quotas in the database")
struct QuotaStoreTests {
    private let project = ProjectID("p")
    private let user = UserID("u")

    @Test(
        "Limits are found by user, project, class and configuration, and removed with their owner",
        arguments: Engine.allCases)
    func order(engine: Engine) async throws {
        let database = try await makeDatabase(engine)
        let (quotas, configured) = (database.quotas, QuotaLimits(instances: 1))
        #expect(try await quotas.limits(of: project, user: user, configured: configured).user == configured)
        #expect(try await quotas.setDefaults([.instances: 2], configured: configured)[.instances] == 2)
        _ = try await quotas.set([.instances: 3], of: project, configured: configured)
        let limits = try await quotas.set([.instances: 4, .cores: 5], of: project, user: user, configured: configured)
        #expect(limits.project[.instances] == 3 && limits.user[.instances] == 4 && limits.user[.cores] == 5)
        #expect(try await quotas.limits(of: ProjectID("q"), user: user, configured: configured).user[.instances] == 2)
        try await quotas.remove(project: project, user: user)
        #expect(try await quotas.limits(of: project, user: user, configured: configured).user[.instances] == 3)
        try await quotas.remove(project: project)
        #expect(try await quotas.limits(of: project, configured: configured).project[.instances] == 2)
        #expect(try await quotas.defaults(configured: configured)[.cores] == 20)
    }

    @Test("What is admitted is decided on what is used then; a refusal changes nothing", arguments: Engine.allCases)
    func admission(engine: Engine) async throws {
        struct Refused: Error {}
        let database = try await makeDatabase(engine)
        _ = try await database.instances.create([plainInstance("a")], actions: [], tasks: [])
        await #expect(throws: Refused.self) {
            try await database.quotas.set([.cores: 0], of: project, configured: QuotaLimits()) { limits, inUse in
                #expect(limits.project[.cores] == 20 && inUse[.cores] == 1 && inUse[.ram] == 2_048)
                #expect(inUse[.serverGroups] == 0)
                throw Refused()
            }
        }
        #expect(try await database.quotas.limits(of: project, configured: QuotaLimits()).project[.cores] == 20)
    }

    @Test("The stricter of two limits, none of them being the laxest")
    func stricter() {
        let both = QuotaLimits(instances: 1, cores: -1, memoryMiB: -1).stricter(
            QuotaLimits(instances: 2, cores: 3, memoryMiB: -1))
        #expect(both[.instances] == 1 && both[.cores] == 3 && both[.ram] == -1)
    }
}
