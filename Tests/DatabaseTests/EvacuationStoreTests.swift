import Database
import Model
import Testing

@Suite("Evacuations, and who is dead")
struct EvacuationStoreTests {
    private let source = HostName("a")
    private let other = HostName("b")
    private let migration = MigrationID("dddddddd-1111-4111-8111-111111111111")

    /// An instance on a host that is heard of, with an evacuation under way.
    private func evacuating(_ engine: Engine) async throws -> (ControlDatabase, EvacuationRecord) {
        let database = try await makeDatabase(engine)
        try await database.services.record([beat(source, 10), beat(other, 10)])
        let instance = fullInstance()
        _ = try await database.instances.create([instance], actions: [], tasks: [])
        let record = EvacuationRecord(
            migration: migration, instance: instance.id, source: source, generation: instance.fence.generation + 1)
        _ = try await database.instances.update(
            instance.id, now: at(20),
            migrations: [
                .insert(
                    MigrationRecord(
                        id: migration, instance: instance, type: .evacuation, status: .accepted, sourceHost: source,
                        newFlavor: instance.flavor.id, userID: UserID("u"), now: at(20))),
                .evacuation(record),
            ]
        ) { _ in }
        return (database, record)
    }

    private func beat(_ host: HostName, _ second: Int64) -> ServiceHeartbeat {
        ServiceHeartbeat(host: host, binary: "nova-compute", version: 1, at: at(second))
    }

    private func service(_ host: HostName, _ database: ControlDatabase) async throws -> ServiceRecord {
        try #require(try await database.services.find(host: host, binary: "nova-compute"))
    }

    @Test(
        "A host with an evacuation to answer for is not up, however it is heard; the others are",
        arguments: Engine.allCases)
    func notUp(engine: Engine) async throws {
        let (database, record) = try await evacuating(engine)
        #expect(try await database.evacuations.hosts() == [source])
        #expect(try await database.evacuations.list(from: source) == [record])
        #expect(try await database.evacuations.list(from: other).isEmpty)
        let mark = try await database.services.changes(since: nil, binary: "nova-compute").mark
        #expect(try await !service(source, database).isUp(now: at(11), downAfter: .seconds(25)))
        #expect(try await service(other, database).isUp(now: at(11), downAfter: .seconds(25)))
        // Another host's answer counts for nothing.
        try await database.evacuations.confirm([migration], by: other, now: at(30))
        #expect(try await database.evacuations.hosts() == [source])
        try await database.evacuations.confirm([migration], by: source, now: at(30))
        #expect(try await database.evacuations.hosts().isEmpty)
        #expect(try await service(source, database).isUp(now: at(11), downAfter: .seconds(25)))
        // Whoever keeps the services in memory hears of it.
        let changes = try await database.services.changes(since: mark, binary: "nova-compute")
        #expect(changes.services.map(\.host) == [source])
        // One that was not done is not made completed by it.
        #expect(try await database.migrations.find(migration)?.status == .accepted)
    }

    @Test(
        "What was done is completed by the answer; what the new host says of the disks is kept",
        arguments: Engine.allCases)
    func completed(engine: Engine) async throws {
        let (database, record) = try await evacuating(engine)
        var done = record
        done.sharesDisks = true
        let written = done
        _ = try await database.instances.update(
            record.instance, now: at(25), migrations: [.status(migration, .done), .evacuation(written)]
        ) { _ in }
        #expect(try await database.evacuations.list(from: source) == [written])
        try await database.evacuations.confirm([migration], by: source, now: at(30))
        let found = try await database.migrations.find(migration)
        #expect(found?.status == .completed && found?.updatedAt == at(30))
    }

    @Test("One that failed is forgotten with it, and its host is up again", arguments: Engine.allCases)
    func failed(engine: Engine) async throws {
        let (database, record) = try await evacuating(engine)
        _ = try await database.instances.update(
            record.instance, now: at(25), migrations: [.status(migration, .failed), .noEvacuation(migration)]
        ) { _ in }
        #expect(try await database.evacuations.hosts().isEmpty)
        #expect(try await service(source, database).isUp(now: at(11), downAfter: .seconds(25)))
    }

    @Test("A deleted instance that is purged leaves what its host is still to be told", arguments: Engine.allCases)
    func purged(engine: Engine) async throws {
        let (database, record) = try await evacuating(engine)
        _ = try await database.instances.update(record.instance, now: at(25)) { $0.deletedAt = at(25) }
        #expect(try await database.purge(deletedBefore: at(30)).instances == 1)
        #expect(try await database.evacuations.list(from: source) == [record])
        try await database.evacuations.confirm([migration], by: source, now: at(40))
        #expect(try await database.evacuations.hosts().isEmpty)
    }

    @Test(
        "A host is dead by an operator's word until it is heard of again; a beat of before says nothing",
        arguments: Engine.allCases)
    func dead(engine: Engine) async throws {
        let services = try await makeDatabase(engine).services
        try await services.record([beat(source, 10)])
        await #expect(throws: StoreError.alive(host: source)) {
            _ = try await services.confirmDead(source, evidence: "e", downAfter: .seconds(25), now: at(20))
        }
        await #expect(throws: StoreError.notFound("Compute service of host b")) {
            _ = try await services.confirmDead(other, evidence: "e", downAfter: .seconds(25), now: at(100))
        }
        let dead = try await services.confirmDead(source, evidence: "no power", downAfter: .seconds(25), now: at(100))
        #expect(dead.deadAt == at(100) && dead.deadEvidence == "no power" && dead.isKnownDead && !dead.isForcedDown)
        #expect(try await services.find(uuid: dead.uuid) == dead)
        try await services.record([beat(source, 99)])
        #expect(try await services.find(uuid: dead.uuid)?.isKnownDead == true)
        try await services.record([beat(source, 101)])
        let back = try await services.find(uuid: dead.uuid)
        #expect(back?.isKnownDead == false && back?.deadEvidence == nil)
        // Declared down it is dead, too, also while it beats.
        #expect(try await services.change(uuid: dead.uuid, isForcedDown: true).isKnownDead)
    }
}
