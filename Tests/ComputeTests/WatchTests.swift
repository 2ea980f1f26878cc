import Configuration
import Crypto
import Foundation
import HTTP
import Model
import RPC
import SQL
import SQLite
import Telemetry
import Testing

@testable import Compute

@Suite("Guests that change by themselves", .timeLimit(.minutes(2)))
struct WatchTests {
    @Test("A guest that shuts itself down has stopped, and the conductor hears it", arguments: [true, false])
    func shutdown(crashed: Bool) async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            try await agent.built(instance)
            agent.driver.guestChanged(instance.id, to: crashed ? .crashed : .shutdown)
            let heard = try await agent.conductor.until { $0.instances.contains { $0.vmState == .stopped } }
            #expect(heard.instances.last?.powerState == (crashed ? .crashed : .shutdown))
            #expect(heard.instances.last?.fence == instance.fence)
            #expect(try await agent.core.journal.guest(instance.id)?.vmState == .stopped)
            #expect(agent.core.tracker.snapshot.promised == instance.resources)
        }
    }

    @Test("A guest whose domain is gone is told as unknown; nothing of it is taken away")
    func vanished() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            try await agent.built(instance)
            agent.driver.guestVanished(instance.id)
            let heard = try await agent.conductor.until { $0.instances.contains { $0.powerState == .noState } }
            #expect(heard.instances.last?.vmState == nil)
            #expect(try await agent.core.journal.guest(instance.id)?.vmState == .active)
            #expect(agent.driver.host.state.disks.contains(instance.id))
        }
    }

    @Test("What happens during an operation is the operation's, and is looked at after it")
    func duringOperation() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            try await agent.built(instance)
            agent.driver.hold(.softReboot)
            let task = try await agent.operate(.softReboot, instance.id, generation: 2)
            await agent.driver.reached(.softReboot)
            agent.driver.guestChanged(instance.id, to: .shutdown)
            agent.driver.guestChanged(instance.id, to: .running)
            agent.driver.release(.softReboot)
            #expect(try await agent.conductor.outcome(of: task).powerState == .running)
            try await agent.settled()
            #expect(!agent.conductor.heard.instances.contains { $0.vmState == .stopped })
        }
    }

    @Test("A broken connection turns nothing off; what happened meanwhile is told when it is back")
    func disconnected() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            try await agent.built(instance)
            agent.driver.fail(.observe, Failure(.hypervisor, "connection lost"))
            agent.driver.fail(.guests, Failure(.hypervisor, "connection lost"))
            agent.driver.send(.disconnected)
            agent.driver.guestChanged(instance.id, to: .shutdown)
            await #expect(throws: Failure.self) { try await agent.core.watcher.compareAll() }
            #expect(try await agent.core.journal.guest(instance.id)?.vmState == .active)
            agent.driver.heal()
            agent.driver.send(.resynchronise)
            try await agent.conductor.until { $0.instances.contains { $0.vmState == .stopped } }
        }
    }

    @Test("A guest that cannot be observed is looked at again until it can")
    func examinedAgain() async throws {
        let bench = try Bench(settings: ["DEFAULT.sync_power_state_interval": "-1s"])
        let instance = Instance.test()
        try await bench.run { agent in
            try await agent.built(instance)
            agent.driver.fail(.observe, Failure(.timeout, "busy"))
            let before = agent.driver.count(.observe)
            agent.driver.guestChanged(instance.id, to: .shutdown)
            while agent.driver.count(.observe) < before + 3 { try await Task.sleep(for: .milliseconds(10)) }
            #expect(try await agent.core.journal.guest(instance.id)?.vmState == .active)
            agent.driver.heal()
            try await agent.conductor.until { $0.instances.contains { $0.vmState == .stopped } }
        }
    }

    @Test("A comparison that fails after the hypervisor came back is made again")
    func comparedAgain() async throws {
        let bench = try Bench(settings: ["DEFAULT.sync_power_state_interval": "-1s"])
        let instance = Instance.test()
        try await bench.run { agent in
            try await agent.built(instance)
            agent.driver.send(.disconnected)
            agent.driver.host.change { $0.domains[instance.id]?.powerState = .shutdown }
            let before = agent.driver.count(.guests)
            agent.driver.fail(.guests, Failure(.timeout, "busy"), calls: (before + 1)...(before + 2))
            // Only a comparison finds an orphan; the guest that stopped may be seen by a look left from its build.
            let orphan = InstanceID("ours")
            agent.driver.host.change {
                $0.domains[orphan] = .init(name: "instance-9", powerState: .running, isOurs: true)
            }
            agent.driver.send(.resynchronise)
            try await agent.conductor.until { $0.instances.contains { $0.vmState == .stopped } }
            while await agent.core.watcher.orphans.map(\.id) != [orphan] {
                try await Task.sleep(for: .milliseconds(10))
            }
            #expect(agent.driver.count(.guests) >= before + 3)
        }
    }

    @Test("The agent is not up before it has looked at its guests")
    func looksFirst() async throws {
        let bench = try Bench()
        bench.driver.hold(.guests)
        let agent = Agent(
            configuration: try bench.configuration(), driver: bench.driver, conductors: [bench.conductor.url])
        let life = Task { try await agent.run() }
        await bench.driver.reached(.guests)
        // Time for what must not happen; a machine that is slower than this lets the mistake pass, never the right agent.
        try await Task.sleep(for: .milliseconds(500))
        #expect(agent.port == nil)
        #expect(bench.conductor.heard.heartbeats.isEmpty && bench.conductor.heard.hosts.isEmpty)
        bench.driver.release(.guests)
        try await bench.conductor.until { !$0.heartbeats.isEmpty && !$0.hosts.isEmpty }
        life.cancel()
        try await life.value
        await bench.conductor.stop()
    }

    @Test("Domains of ours without a record are listed, those of others are not, and both are left alone")
    func orphans() async throws {
        let host = FakeHost()
        host.change {
            $0.domains[InstanceID("ours")] = .init(name: "instance-1", powerState: .running, isOurs: true)
            $0.domains[InstanceID("theirs")] = .init(name: "other", powerState: .running, isOurs: false)
        }
        let bench = try Bench(host: host)
        try await bench.run { agent in
            try await agent.core.watcher.compareAll()
            #expect(await agent.core.watcher.orphans.map(\.id) == [InstanceID("ours")])
            #expect(agent.driver.host.state.domains.count == 2)
        }
    }

    @Test("What nobody can place is told with the host's report, and no longer once it fits")
    func strays() async throws {
        let host = FakeHost()
        host.change { $0.domains[InstanceID("ours")] = .init(name: "instance-1", powerState: .running, isOurs: true) }
        let bench = try Bench(host: host)
        let lost = Instance.test()
        bench.conductor.script { script in
            var placed = lost
            (placed.vmState, placed.taskState) = (.active, nil)
            script.placed = [placed]
        }
        try await bench.run { agent in
            try await agent.conductor.until { heard in
                heard.hosts.last?.strays?.orphans == .init([InstanceID("ours")])
                    && heard.hosts.last?.strays?.unknown == .init([lost.id])
            }
            agent.driver.host.change { _ = $0.domains.removeValue(forKey: InstanceID("ours")) }
            agent.conductor.script { $0.placed = [] }
            try await agent.core.watcher.compareAll()
            try await agent.core.comparison.run(timeout: .seconds(20))
            try await agent.conductor.until { $0.hosts.last.map { $0.strays == nil } ?? false }
        }
    }

    @Test("A difference to the database's view of an instance at rest is told at the start")
    func comparison() async throws {
        let (folder, host) = (try Folder(), FakeHost())
        let instance = Instance.test()
        try await Bench(host: host, folder: folder).run { agent in
            try await agent.built(instance)
            try await agent.settled()
        }
        let bench = try Bench(host: host, folder: folder)
        bench.conductor.script { script in
            var placed = instance
            placed.vmState = .stopped
            placed.taskState = nil
            script.placed = [placed]
        }
        try await bench.run { agent in
            let heard = try await agent.conductor.until { !$0.instances.isEmpty }
            #expect(heard.instances.first?.vmState == .active)
        }
    }

    @Test(
        "It is told also after a request that did not reach the host, or a conductor's take-over; NICs count",
        arguments: [Fence(generation: 2, epoch: 0), Fence(generation: 1, epoch: 3)])
    func comparisonAfterFailure(fence: Fence) async throws {
        let (folder, host) = (try Folder(), FakeHost())
        let instance = Instance.test()
        let interfaces = try await Bench(host: host, folder: folder).run { agent in
            try await agent.built(instance)
            try await agent.settled()
            return try await agent.core.journal.guest(instance.id)?.specification.interfaces ?? []
        }
        let bench = try Bench(host: host, folder: folder)
        bench.conductor.script { script in
            var placed = instance
            (placed.vmState, placed.taskState, placed.powerState) = (.active, nil, .running)
            (placed.hostFence, placed.fence) = (instance.fence, fence)
            placed.interfaces = []
            script.placed = [placed]
        }
        try await bench.run { agent in
            let heard = try await agent.conductor.until { !$0.instances.isEmpty }
            #expect(heard.instances.first?.interfaces == interfaces && !interfaces.isEmpty)
            #expect(heard.instances.first?.fence == instance.fence)
        }
    }
}

@Suite("An agent's life", .timeLimit(.minutes(2)))
struct AgentLifeTests {
    @Test("The report says what the host has, keeps, and has promised; it follows each claim")
    func hostReport() async throws {
        let bench = try Bench(settings: [
            "DEFAULT.reserved_host_disk_mb": "1500", "DEFAULT.reserved_host_cpus": "1",
            "DEFAULT.cpu_allocation_ratio": "2",
            "DEFAULT.my_ip": "192.0.2.7",
        ])
        let instance = Instance.test(vcpus: 2, memoryMiB: 1_024, rootGiB: 3)
        try await bench.run { agent in
            let first = try #require(try await agent.conductor.until { !$0.hosts.isEmpty }.hosts.first)
            #expect(first.total == Resources(vcpus: 8, memoryMiB: 16_384, diskGiB: 100))
            #expect(first.reserved == Resources(vcpus: 1, memoryMiB: 512, diskGiB: 2))
            #expect(first.used == first.reserved)
            #expect(first.ratios == AllocationRatios(cpu: 2, memory: 1, disk: 1))
            #expect(first.hostAddress == "192.0.2.7")
            #expect(first.hypervisorHostname == "fake-host")
            #expect(first.host == HostName("host1"))
            try await agent.built(instance)
            let then = try await agent.conductor.until {
                $0.hosts.last?.workload == 0 && $0.hosts.last?.runningInstances == 1
            }
            #expect(then.hosts.last?.used == Resources(vcpus: 3, memoryMiB: 1_536, diskGiB: 5))
            let sequences = then.hosts.map(\.sequence)
            #expect(sequences == sequences.sorted() && Set(sequences).count == sequences.count)
        }
    }

    @Test("Heartbeats come at once and go on")
    func heartbeats() async throws {
        try await Bench().run { agent in
            let heard = try await agent.conductor.until { $0.heartbeats.count >= 2 }
            #expect(heard.heartbeats[0].binary == "nova-compute")
            #expect(heard.heartbeats[0].sequence < heard.heartbeats[1].sequence)
        }
    }

    @Test("The audit gives each guest its claim and takes claims without a guest back")
    func audit() async throws {
        let bench = try Bench()
        let instance = Instance.test()
        try await bench.run { agent in
            try await agent.built(instance)
            let stray = Claim(
                id: ClaimID("stray"), instance: InstanceID("nobody"),
                resources: Resources(vcpus: 1, memoryMiB: 1, diskGiB: 1))
            try await agent.core.journal.database.write { connection in
                try connection.execute("DELETE FROM claims")
                try connection.insert(stray, now: Timestamp(seconds: 1))
            }
            try await agent.core.audit()
            try await agent.holdsExactly([instance])
        }
    }

    @Test("A host that has not joined, or joined under another name, does not start")
    func identity() async throws {
        let bench = try Bench()
        let stranger = Agent(
            configuration: try bench.configuration().setting("DEFAULT.host", to: "other"), driver: FakeDriver())
        #expect((await failure { try await stranger.run() })?.kind == .conflict)
        #expect(await stranger.ready() == false)
        let folder = try Folder()
        let fresh = Agent(
            configuration: try bench.configuration().setting("DEFAULT.state_path", to: folder.path),
            driver: FakeDriver())
        #expect((await failure { try await fresh.run() })?.kind == .unauthenticated)
    }

    @Test("A second agent on the same folder is turned away, and the first does not notice")
    func second() async throws {
        let bench = try Bench()
        try await bench.run { agent in
            let other = Agent(configuration: try bench.configuration(), driver: FakeDriver())
            #expect((await failure { try await other.run() })?.kind == .conflict)
            try await agent.built(.test())
        }
    }

    @Test("A hypervisor that cannot be used, and a port that is taken, end the start with an error")
    func unusable() async throws {
        let bench = try Bench()
        bench.driver.fail(.start, Failure(.hypervisor, "no libvirtd"))
        let agent = Agent(configuration: try bench.configuration(), driver: bench.driver)
        #expect((await failure { try await agent.run() })?.message == "no libvirtd")
        let taken = try Bench()
        let port = taken.conductor.url.split(separator: ":").last ?? ""
        let late = Agent(
            configuration: try taken.configuration().setting("compute.listen", to: "127.0.0.1:\(port)"),
            driver: taken.driver)
        await #expect(throws: HTTPServerError.portInUse(address: "127.0.0.1", port: UInt16(port) ?? 0)) {
            try await late.run()
        }
        await taken.conductor.stop()
        await bench.conductor.stop()
    }

    @Test("Beyond this machine the agent does not listen without a certificate")
    func plaintext() async throws {
        let bench = try Bench(settings: ["compute.listen": "0.0.0.0:0"])
        let agent = Agent(configuration: try bench.configuration(), driver: bench.driver)
        #expect((await failure { try await agent.run() })?.kind == .forbidden)
        await bench.conductor.stop()
    }

    @Test("Ended gracefully the agent lets the step under way end; guests go on and the next agent finishes")
    func graceful() async throws {
        let (folder, host) = (try Folder(), FakeHost())
        let (instance, task) = (Instance.test(), TaskID(makeUUID()))
        let first = try Bench(host: host, folder: folder)
        first.driver.hold(.define)
        try await first.run { agent in
            _ = try await agent.build(instance, task: task)
            await agent.driver.reached(.define)
            // The step ends while the agent is being ended, or just before: it must be recorded either way.
            Task { agent.driver.release(.define) }
        }
        try await Bench(host: host, folder: folder).run { agent in
            try await agent.settled()
            try await agent.holdsExactly([instance])
            #expect(agent.driver.host.state.domains[instance.id]?.starts == 1)
        }
    }

    private func failure(_ body: () async throws -> Void) async -> Failure? {
        do {
            try await body()
            return nil
        } catch {
            return error as? Failure
        }
    }
}

@Suite("Joining")
struct JoinTests {
    private final class Portal: Sendable {
        let server: HTTPServer
        let url: String

        init(answer: @escaping @Sendable (JSON) -> HTTPResponse) throws {
            var router = Router()
            router.on(.post, "/apus/v1/join") { request in answer(try JSON(parsing: request.bytes)) }
            server = HTTPServer(ServerConfiguration(), router: router)
            try server.start()
            url = "http://127.0.0.1:\(server.port)"
        }
    }

    @Test("A host exchanges its token for credentials, and keeps them readable by itself alone")
    func plain() async throws {
        let folder = try Folder()
        let hash = String(repeating: "0f", count: 32)
        let portal = try Portal { body in
            #expect(body["host"]?.text == "host1")
            #expect(body["token"]?.text == JoinTokenTests.digits)
            #expect(body["address"]?.text == "127.0.0.1")
            #expect(body["port"]?.int == 8_783)
            #expect(body["csr"] == .null)
            return .json(
                200,
                JSON.object([
                    "secret": .string("mine"), "conductor_secret_hash": .string(hash), "ca": .null,
                    "certificate": .null,
                ]).serialized())
        }
        let identity = try await joinHost(
            url: portal.url + "/", token: JoinTokenTests.digits, host: HostName("host1"), address: "127.0.0.1",
            port: 8_783, statePath: folder.path)
        #expect(identity.secret == "mine" && identity.conductors == [portal.url])
        #expect(try AgentIdentity.load(statePath: folder.path) == identity)
        for file in try FileManager.default.contentsOfDirectory(atPath: folder.path + "/identity") {
            let attributes = try FileManager.default.attributesOfItem(atPath: folder.path + "/identity/" + file)
            #expect(attributes[.posixPermissions] as? Int == 0o600)
        }
        await portal.server.stop(grace: .zero)
    }

    @Test("A refused token says why and leaves nothing behind")
    func refused() async throws {
        let folder = try Folder()
        let portal = try Portal { _ in .json(403, Array(#"{"error": "The token is used."}"#.utf8)) }
        let failure = await #expect(throws: Failure.self) {
            try await joinHost(
                url: portal.url, token: JoinTokenTests.digits, host: HostName("host1"), address: "127.0.0.1", port: 1,
                statePath: folder.path)
        }
        #expect(failure?.kind == .unauthenticated)
        #expect(failure?.message.contains("The token is used.") == true)
        #expect(try AgentIdentity.load(statePath: folder.path) == nil)
        await portal.server.stop(grace: .zero)
    }

    @Test(
        "No token leaves for another machine in plaintext, nor over https without the authority's fingerprint",
        arguments: [
            ("http://192.0.2.1:8781", FailureKind.forbidden), ("https://192.0.2.1", .invalidParameters),
            ("ftp://127.0.0.1", .invalidParameters),
        ])
    func confidentiality(url: String, expected: FailureKind) async throws {
        let folder = try Folder()
        let failure = await #expect(throws: Failure.self) {
            try await joinHost(
                url: url, token: JoinTokenTests.digits, host: HostName("host1"), address: "127.0.0.1", port: 1,
                statePath: folder.path)
        }
        #expect(failure?.kind == expected)
    }

    @Test("Over https only the authority that the token names is spoken to, and it signs the host's certificate")
    func tls() async throws {
        let authority = try CertificateAuthority.make(name: "apus")
        let other = try CertificateAuthority.make(name: "other")
        let server = try CertificateRequest.make(commonName: "conductor")
        let certificate = try authority.issue(
            requestPEM: server.requestPEM, names: ["127.0.0.1"], commonName: "conductor", validity: .seconds(3_600),
            now: WallClock.now())
        var router = Router()
        router.on(.get, "/apus/v1/ca") { _ in HTTPResponse(200, body: .bytes(Array(authority.certificatePEM.utf8))) }
        router.on(.post, "/apus/v1/join") { request in
            let body = try JSON(parsing: request.bytes)
            let signed = try authority.issue(
                requestPEM: body["csr"]?.text ?? "", names: ["127.0.0.1"], commonName: "host1",
                validity: .seconds(3_600), now: WallClock.now())
            return .json(
                200,
                JSON.object([
                    "secret": .string("mine"), "conductor_secret_hash": .string(String(repeating: "0f", count: 32)),
                    "ca": .string(authority.certificatePEM), "certificate": .string(signed),
                ]).serialized())
        }
        let https = HTTPServer(
            ServerConfiguration(tls: ServerTLS(certificatePEM: certificate, privateKeyPEM: server.privateKeyPEM)),
            router: router)
        try https.start()
        let url = "https://127.0.0.1:\(https.port)"
        let folder = try Folder()
        let identity = try await joinHost(
            url: url, token: "\(JoinTokenTests.digits).\(authority.fingerprint)", host: HostName("host1"),
            address: "127.0.0.1", port: 1, statePath: folder.path)
        #expect(identity.authorityPEM == authority.certificatePEM)
        #expect(identity.certificatePEM != nil && identity.privateKeyPEM != nil)
        let failure = await #expect(throws: Failure.self) {
            try await joinHost(
                url: url, token: "\(JoinTokenTests.digits).\(other.fingerprint)", host: HostName("host1"),
                address: "127.0.0.1", port: 1, statePath: folder.path)
        }
        #expect(failure?.kind == .unauthenticated)
        await https.stop(grace: .zero)
    }

    @Test("Credentials that others can read are not used")
    func exposed() throws {
        let folder = try Folder()
        try AgentIdentity(
            host: HostName("host1"), secret: "s", conductorSecretHash: "00", conductors: []
        ).save(statePath: folder.path)
        try FileManager.default.setAttributes(
            [.posixPermissions: 0o644], ofItemAtPath: folder.path + "/identity/secret")
        #expect(throws: Failure.self) { try AgentIdentity.load(statePath: folder.path) }
    }
}
